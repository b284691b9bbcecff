"""The code that docs/reference/webhooks.md gives to receivers verifies what is sent."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

from peakclip_worker.channels.signature import secret_text, sign

PAGE = Path(__file__).parents[4] / "docs" / "reference" / "webhooks.md"


def test_the_page_verifies_what_is_sent_and_nothing_else() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    page: dict[str, Any] = {}
    exec(code, page)
    key, now, body = b"r" * 32, int(time.time()), b'{"id": "d1"}'

    def verified(*, keys: tuple[bytes, ...] = (key,), at: int = now, read: bytes = body) -> bool:
        headers = {
            "webhook-id": "d1",
            "webhook-timestamp": str(at),
            "webhook-signature": sign(keys, "d1", at, body),
        }
        return bool(page["verify"](secret_text(key), headers, read))

    assert verified()
    assert verified(keys=(b"n" * 32, key))
    assert not verified(keys=(b"n" * 32,))
    assert not verified(read=b'{"id": "d2"}')
    assert not verified(at=now - 3_600)
