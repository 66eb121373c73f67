import subprocess
import sys

_PROGRAM = """
import sys
import proxy.testbed.strict_registry, proxy.testbed.node
ours = [name for name in sys.modules if name.startswith("proxy.")]
print(sorted(name for name in ours if name != "proxy.testbed" and not name.startswith("proxy.testbed.")))
"""


def test_registry_and_node_judge_without_the_proxy() -> None:
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() in {"[]", "['proxy.version']"}
