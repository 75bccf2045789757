"""Redis URLs in a form that redis-py and Celery's transport (kombu) both understand.

The two spell a database, a socket and the certificate check differently. Each fails late at an
option that only the other knows. So an unknown option is refused at the start.
"""

from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from django.core.exceptions import ImproperlyConfigured

# Python's ssl module has one spelling, redis-py the other. kombu reads both.
CERTIFICATE_CHECKS = {
    **{name: name for name in ("none", "optional", "required")},
    **{f"cert_{name}": name for name in ("none", "optional", "required")},
}
TRUTHS = {"true": "true", "1": "true", "yes": "true", "false": "false", "0": "false", "no": "false"}
FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
SOME = "ssl_cert_reqs, ssl_check_hostname, ssl_ca_certs, ssl_certfile and ssl_keyfile"


def redis_url(name: str, text: str) -> str:
    """Return the URL as redis-py reads it. Raises `ImproperlyConfigured` with this `name`."""
    try:
        url = urlsplit(text)
        _ = url.port  # raises if it is not a number
        options = dict(parse_qsl(url.query, keep_blank_values=True, strict_parsing=bool(url.query)))
    except ValueError:
        raise ImproperlyConfigured(f"{name} cannot be read as a URL.") from None
    if url.fragment:
        raise ImproperlyConfigured(f"{name} holds a `#`: within a URL it is spelled %23.")
    path = url.path
    kept = {key: _value(name, url.scheme, key, value) for key, value in options.items()}
    if url.scheme != "unix":
        if "db" in kept:
            path = f"/{kept.pop('db')}"
        if path.strip("/") and not path.strip("/").isdecimal():
            raise ImproperlyConfigured(f"{name} must end in the number of a database, as /0.")
    query = urlencode(kept, quote_via=quote, safe="/")
    return f"{url.scheme}://{url.netloc}{path}{'?' if query else ''}{query}"


def _value(name: str, scheme: str, option: str, value: str) -> str:
    lower = value.strip().lower()
    match option:
        case "db" if value.isdecimal():
            return value
        case "db":
            raise ImproperlyConfigured(f"{name}: db must be the number of a database.")
        case "ssl_cert_reqs" if scheme == "rediss" and lower in CERTIFICATE_CHECKS:
            return CERTIFICATE_CHECKS[lower]
        case "ssl_cert_reqs" if scheme == "rediss":
            raise ImproperlyConfigured(f"{name}: ssl_cert_reqs is none, optional or required.")
        case "ssl_check_hostname" if scheme == "rediss" and lower in TRUTHS:
            return TRUTHS[lower]
        case "ssl_check_hostname" if scheme == "rediss":
            raise ImproperlyConfigured(f"{name}: ssl_check_hostname is true or false.")
        case _ if scheme == "rediss" and option in FILES:
            return value
    # The message does not repeat the option: it may be a part of a password that contains `?`.
    with_tls = f" and, with rediss:, {SOME}"
    raise ImproperlyConfigured(f"{name} has an option after `?` that is not known: db{with_tls}.")


def broker_url(url: str) -> str:
    """Return the URL as kombu reads it: it spells a socket and its database differently."""
    if not url.startswith("unix://"):
        return url
    return f"redis+socket{url[4:]}".replace("?db=", "?virtual_host=")
