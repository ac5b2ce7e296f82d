"""The end of a run told to a URL: one POST of the statistics as JSON. A run never fails for it.

The URL may hold a secret, as those of chat services do: it is in no plan, statistics, log or message.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any

SECONDS = 10.0


def notify(url: str, content: Mapping[str, Any]) -> str | None:
    """POST `content` as JSON; None when it was taken, else why not, in words without the URL."""
    try:
        request = urllib.request.Request(url, json.dumps(content).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=SECONDS):
            return None
    except urllib.error.HTTPError as error:
        error.close()
        return f"the webhook answered {error.code}"
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        return f"the webhook could not be reached ({type(reason).__name__})"
