"""Eight devices on any machine: XLA reads its flags when the first array is made, which is after this file."""

import os

_DEVICES = "--xla_force_host_platform_device_count"
_given = os.environ.get("XLA_FLAGS", "")
if _DEVICES not in _given:
    os.environ["XLA_FLAGS"] = f"{_given} {_DEVICES}=8".strip()
