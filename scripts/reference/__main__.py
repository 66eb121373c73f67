"""Write every generated file: `make reference`."""

from scripts.reference.files import generated

for path, text in generated().items():
    path.write_text(text, encoding="utf-8")
