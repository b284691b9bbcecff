"""`make crd`: writes the definition of the resource to where the chart takes it from."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

import yaml

from peakclip_operator.resource.definition import definition

FILE: Final = "charts/peakclip/crds/workerpools.yaml"
_HEAD: Final = "# Made from operator/peakclip_operator/resource by `make crd`. Do not edit.\n"


class _Dumper(yaml.SafeDumper):
    def increase_indent(self, flow: bool = False, indentless: bool = False) -> Any:
        return super().increase_indent(flow, False)


def text() -> str:
    return _HEAD + yaml.dump(definition(), Dumper=_Dumper, sort_keys=False, width=110, allow_unicode=True)


def main() -> None:
    """Relative to the present folder, or to the file named as the argument."""
    target = Path(sys.argv[1] if len(sys.argv) > 1 else FILE)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text())


if __name__ == "__main__":
    main()
