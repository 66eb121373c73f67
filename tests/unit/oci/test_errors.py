import json
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.oci.errors import ALL_ERRORS, REASON_LIMIT, RangeInvalid, RegistryError, Unauthorized

# DESIGN section 8: class, code, status.
TABLE = {
    "NameInvalid": ("NAME_INVALID", 400),
    "DigestInvalid": ("DIGEST_INVALID", 400),
    "NameUnknown": ("NAME_UNKNOWN", 404),
    "RegistryUnknown": ("DENIED", 403),
    "ManifestUnknown": ("MANIFEST_UNKNOWN", 404),
    "BlobUnknown": ("BLOB_UNKNOWN", 404),
    "RangeInvalid": ("RANGE_INVALID", 416),
    "Denied": ("DENIED", 403),
    "Unauthorized": ("UNAUTHORIZED", 401),
    "Unsupported": ("UNSUPPORTED", 405),
    "TooManyRequests": ("TOOMANYREQUESTS", 503),
    "UpstreamUnavailable": ("UNAVAILABLE", 503),
    "UpstreamTimeout": ("UNAVAILABLE", 504),
    "UpstreamInvalid": ("MANIFEST_INVALID", 502),
    "UpstreamDigestInvalid": ("DIGEST_INVALID", 502),
    "RegistryError": ("UNKNOWN", 500),
}


def test_codes_and_statuses_are_those_of_the_design() -> None:
    assert {kind.__name__: (kind.code, kind.status) for kind in ALL_ERRORS} == TABLE


# 401 is for clients of listeners that ask who they are, and comes with a challenge.
@pytest.mark.parametrize("kind", [kind for kind in ALL_ERRORS if kind is not Unauthorized])
def test_no_error_is_one_that_containerd_takes_amiss(kind: type[RegistryError]) -> None:
    assert kind.status not in {401, 408, 429}


def test_the_body_is_the_specifications_json() -> None:
    error = RegistryError("it broke", detail={"hint": "look"}, retry_after=3.0)
    assert json.loads(error.body("r1")) == {
        "errors": [{"code": "UNKNOWN", "message": "it broke", "detail": {"hint": "look", "requestId": "r1"}}]
    }
    assert error.retry_after == 3.0


def test_a_range_error_has_a_body_too() -> None:
    assert json.loads(RangeInvalid("outside", size=7).body("r1"))["errors"][0]["code"] == "RANGE_INVALID"


@given(st.text(max_size=400))
def test_a_reason_phrase_is_short_printable_ascii_and_the_body_is_json(reason: str) -> None:
    error = RegistryError(reason)
    assert len(error.reason_phrase) <= REASON_LIMIT
    assert set(error.reason_phrase) <= set(string.printable) - set("\t\n\r\v\f")
    assert json.loads(error.body("r1"))["errors"][0]["message"] == reason
