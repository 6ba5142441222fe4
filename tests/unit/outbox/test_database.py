"""One spelling of the URL."""

import traceback

import pytest
from psycopg.conninfo import conninfo_to_dict

from outboxkit.database import conninfo, create_engine, sqlalchemy_url


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg", "postgresql+asyncpg", "postgres+x"])
def test_spellings(scheme: str) -> None:
    """Every spelling means the same database, for SQLAlchemy and for libpq."""
    url = f"{scheme}://us%40er:p%2Fw%25@h:6432/d%20b?sslmode=require"
    parsed = sqlalchemy_url(url)
    assert (parsed.drivername, parsed.username, parsed.password) == ("postgresql+psycopg", "us@er", "p/w%")
    assert conninfo_to_dict(conninfo(url)) == {
        "user": "us@er",
        "password": "p/w%",
        "host": "h",
        "port": "6432",
        "dbname": "d b",
        "sslmode": "require",
    }


@pytest.mark.parametrize("url", ["postgresql://[::1]:5432/d", "postgresql:///d", "postgresql://h", "postgresql://u@h/"])
def test_parts_left_out(url: str) -> None:
    """What is left out stays left out, and an IPv6 address keeps its brackets."""
    assert conninfo_to_dict(conninfo(url)) == conninfo_to_dict(url)


def test_sockets() -> None:
    """A Unix socket's folder goes in as a parameter."""
    url = "postgresql://postgres@/db?host=/tmp/some%20where&port=5433"
    wanted = {"user": "postgres", "dbname": "db", "host": "/tmp/some where", "port": "5433"}  # noqa: S108 (a name)
    assert conninfo_to_dict(conninfo(url)) == wanted


@pytest.mark.parametrize(
    "url", ["", "hunter2", "mysql://u:hunter2@h/d", "postgresql://u:p@h:hunter2/d", "sqlite:///hunter2"]
)
def test_refused(url: str) -> None:
    """Anything else is a ValueError that shows nothing of it, its traceback neither."""
    with pytest.raises(ValueError, match="wanted postgresql://user:password@host:5432/name") as refused:
        sqlalchemy_url(url)
    assert "hunter2" not in "".join(traceback.format_exception(refused.value))


async def test_nothing_connects() -> None:
    """An engine for a server that is not there is made without complaint."""
    engine = create_engine("postgresql://nobody@127.0.0.1:1/none", application_name="x")
    assert "nobody" in str(engine.url)
    await engine.dispose()
