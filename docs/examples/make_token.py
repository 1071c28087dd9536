"""Make a token with PyJWT: python make_token.py USER [CHANNEL]"""

import os
import sys
import time

import jwt

KEY = os.environ["TOKEN_KEY"]  # the same as in auth.hmac_keys


def connection_token(user, roles=(), ttl_s=600):
    """For whoever is logged in: `user` is your session's, never what a page says it is."""
    now = int(time.time())
    return jwt.encode({"sub": user, "roles": list(roles), "iat": now, "exp": now + ttl_s}, KEY, algorithm="HS256")


def subscription_token(user, channel, ttl_s=600):
    """For one channel. Look first whether this user may have it."""
    now = int(time.time())
    return jwt.encode({"sub": user, "channel": channel, "iat": now, "exp": now + ttl_s}, KEY, algorithm="HS256")


if __name__ == "__main__":
    user, *channels = sys.argv[1:]
    print(subscription_token(user, channels[0]) if channels else connection_token(user))
