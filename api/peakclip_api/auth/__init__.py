"""Who is asking, and what they may do: API keys of our own, and signed tokens (JWT) of one other issuer.

    credential   what is known of a caller, and the questions that routes ask of it
    look_up      from the `Authorization` header to a credential; remembered for a short while
    tokens       PURE: what a token must say, and which key must have signed it
    jwks         PURE: the issuer's published keys, read strictly
    signing      fetches those keys, keeps the last good ones, and is never in a hurry

No route looks at the header itself, and nothing in here knows of orders.
"""

from peakclip.credentials import FRESH_SECONDS
from peakclip_api.auth.credential import (
    CUSTOMER_HEADER,
    MAX_CUSTOMER_LENGTH,
    Credential,
    customer_of,
    require_role,
)
from peakclip_api.auth.look_up import Keys, credential_of

__all__ = [
    "CUSTOMER_HEADER",
    "FRESH_SECONDS",
    "MAX_CUSTOMER_LENGTH",
    "Credential",
    "Keys",
    "credential_of",
    "customer_of",
    "require_role",
]
