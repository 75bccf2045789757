"""Redis URLs in a form that redis-py and Celery's transport (kombu) both understand.

The two spell a database, a socket and the certificate check differently. With an option that only
one of them knows, the other fails late. So an unknown option is refused at the start.
"""

import re
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from streams.environment import split

# Python's ssl module has one spelling, redis-py the other. kombu reads both.
CERTIFICATE_CHECKS = {
    **{name: name for name in ("none", "optional", "required")},
    **{f"cert_{name}": name for name in ("none", "optional", "required")},
}
TRUTHS = {"true": "true", "1": "true", "yes": "true", "false": "false", "0": "false", "no": "false"}
FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
SOME = "ssl_cert_reqs, ssl_check_hostname, ssl_ca_certs, ssl_certfile and ssl_keyfile"


def redis_url(text: str) -> str:
    """Return the URL as redis-py reads it. The text of `ValueError` follows the setting's name."""
    try:
        url = urlsplit(text)
        _ = url.port  # raises if it is not a number
        options = dict(parse_qsl(url.query, keep_blank_values=True, strict_parsing=bool(url.query)))
    except ValueError:
        raise ValueError("cannot be read as a URL.") from None
    if url.fragment:
        raise ValueError("holds a `#`: within a URL it is spelled %23.")
    path = url.path
    kept = {key: _value(url.scheme, key, value) for key, value in options.items()}
    if url.scheme != "unix":
        if "db" in kept:
            path = f"/{kept.pop('db')}"
        if path.strip("/") and not path.strip("/").isdecimal():
            raise ValueError("must end in the number of a database, as /0.")
    query = urlencode(kept, quote_via=quote, safe="/")
    return f"{url.scheme}://{url.netloc}{path}{'?' if query else ''}{query}"


def _value(scheme: str, option: str, value: str) -> str:
    lower = value.strip().lower()
    match option:
        case "db" if value.isdecimal():
            return value
        case "db":
            raise ValueError("must have the number of a database after `db=`.")
        case "ssl_cert_reqs" if scheme == "rediss" and lower in CERTIFICATE_CHECKS:
            return CERTIFICATE_CHECKS[lower]
        case "ssl_cert_reqs" if scheme == "rediss":
            raise ValueError("must have none, optional or required after `ssl_cert_reqs=`.")
        case "ssl_check_hostname" if scheme == "rediss" and lower in TRUTHS:
            return TRUTHS[lower]
        case "ssl_check_hostname" if scheme == "rediss":
            raise ValueError("must have true or false after `ssl_check_hostname=`.")
        case _ if scheme == "rediss" and option in FILES:
            return value
    # The message does not repeat the option: it may be a part of a password that contains `?`.
    with_tls = f" and, with rediss:, {SOME}"
    raise ValueError(f"has an option after `?` that is not known: db{with_tls}.")


def redis_urls(text: str) -> str:
    """Return the URLs between commas as redis-py reads them. Raises `ValueError`."""
    urls = split(text)
    if not urls or not all(re.fullmatch("(redis|rediss|unix)://[^;]+", url) for url in urls):
        raise ValueError("must be redis://…, rediss://… or unix://…, or several.")
    return ",".join(map(redis_url, urls))


def celery_url(text: str) -> str:
    """Return the broker's URL. Only a URL of Redis is checked. Raises `ValueError`."""
    return redis_url(text) if re.fullmatch("(redis|rediss|unix)://[^;]+", text) else text


def broker_url(url: str) -> str:
    """Return the URL as kombu reads it. kombu spells a socket and its database differently."""
    if not url.startswith("unix://"):
        return url
    return f"redis+socket{url[4:]}".replace("?db=", "?virtual_host=")
