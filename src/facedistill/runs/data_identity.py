"""The identity of the data that a run sees."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from facedistill.config.schema import Config
from facedistill.data.sources.source import build_source
from facedistill.data.sources.verification_set import protocol_source
from facedistill.errors import DataError
from facedistill.system.files import hash_of

Identities = dict[str, dict[str, Any]]  # of data sources, by the hash of their node of the configuration


def identity_of_data(config: Config, known: Identities) -> dict[str, Any]:
    """The identity of its data and, as ``protocol``, that of the pairs it is scored by, where they are of other data.

    ``known``: what is known of data sources, and what is found here.

    Raises:
        DataError: the data is not there, or the protocol has no pairs.
    """
    sources = {"data": (config.data, build_source)}
    if config.has_protocol:
        sources["protocol"] = (config.protocol, protocol_source)
    found = {}
    for name, (node, build) in sources.items():
        key = hash_of(node)
        with in_words_of(name, node):
            source = build(node)
            if name == "protocol" and not source.has_protocol:
                raise DataError(f"data@protocol={source.name} has no pairs to verify. Use data@protocol=lfw")
            if key not in known:
                known[key] = source.identity()
        found[name] = known[key]
    return {**found.pop("data"), **found}


@contextmanager
def in_words_of(group: str, node: Mapping[str, Any]) -> Iterator[None]:
    """Errors about ``data=`` and the keys of a node in the words that were typed: ``data@GROUP=`` and ``GROUP.KEY``."""
    try:
        yield
    except DataError as error:
        if group == "data":
            raise
        said = re.sub(rf"(?<![\w/])data\.(?=({'|'.join(node)})\b)", f"{group}.", str(error))
        if group == "recognition":
            said = re.sub(r"(?<![\w/])(?<!facedistill data )data=", f"data@{group}=", said)
        raise DataError(said) from error
