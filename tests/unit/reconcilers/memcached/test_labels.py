"""Image in, version label out."""

import pytest

from memop.reconcilers.pods import image_tag


@pytest.mark.parametrize(
    ("image", "tag"),
    [
        ("memcached:1.6", "1.6"),
        ("docker.io/library/memcached:1.6.38-alpine", "1.6.38-alpine"),
        ("mirror:5000/memcached", None),
        ("mirror:5000/memcached:1.6", "1.6"),
        ("memcached", None),
        ("memcached@sha256:" + "0" * 64, None),
        ("memcached:1.6@sha256:" + "0" * 64, None),
        ("memcached:" + "x" * 64, None),
    ],
)
def test_the_version_label_is_the_tag_where_a_label_can_hold_it(image: str, tag: str | None) -> None:
    assert image_tag(image) == tag
