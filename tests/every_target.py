"""Every target that learns from one teacher, found in conf/target, with the words of a student that can have it."""

from facedistill.config.choices import nodes

_WIDE = "model.features=128"  # as wide as teachers of 16 kernels
_NEEDED = {"cosine": [_WIDE], "raw": [_WIDE]}
_NODES = {name: node for name, node in nodes("target").items() if name not in ("none", "two_teachers")}
TARGETS = {name: [f"target={name}", *_NEEDED.get(name, [])] for name in _NODES}
OF_LOGITS = [
    *(
        "soft",
        *(name for name, node in _NODES.items() if node.get("terms", {}).get(name, {}).get("compares") == "logits"),
    )
]
