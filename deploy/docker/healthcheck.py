"""Whether the server in this container is alive: exit code 0 or 1. HEALTH_URL is for another port, or for TLS."""

import os
import ssl
import sys
import urllib.request

URL = os.environ.get("HEALTH_URL", "http://127.0.0.1:8000/livez")
TIMEOUT_S = 3
# This is the machine itself, and the certificate is for another name.
TRUST = ssl._create_unverified_context()  # noqa: S323, SLF001

try:
    with urllib.request.urlopen(URL, timeout=TIMEOUT_S, context=TRUST):  # noqa: S310 - the operator's own address
        pass
except OSError as error:
    sys.exit(f"{URL}: {error}")
