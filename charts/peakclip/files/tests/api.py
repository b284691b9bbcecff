"""`helm test`: the API answers through its Service. PEAKCLIP_URL says where."""

import json
import os
import urllib.request

with urllib.request.urlopen(os.environ["PEAKCLIP_URL"] + "/openapi.json", timeout=10) as answer:  # noqa: S310
    print(f"The API answers: {json.load(answer)['info']['title']}.")
