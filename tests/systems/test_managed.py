"""Debian's Postgres, which is of another version than the embedded one, as a managed server."""

from collections.abc import Iterator

import pytest

from mf_core.warehouse.bootstrap import bootstrap_warehouse

# The tests of the embedded server; `bare_server` is another one here.
from tests.db.test_roles import (  # noqa: F401
    ADMIN,
    run_as_admin,
    test_a_database_of_somebody_elses_role,
    test_a_dba_may_make_the_schemas_and_let_nobody_make_others,
    test_a_reader_has_limits_that_can_be_set_and_stay_as_they_are,
    test_a_server_of_an_older_release_migrates_and_gets_the_roles_later,
    test_an_admin_who_may_nothing_says_what_to_make_and_then_finds_it,
    test_databases_of_others_are_named_and_left_as_they_are,
    test_several_may_set_a_server_up_at_once,
    test_the_admin_of_a_managed_server_needs_no_superuser,
    test_the_command_prints_what_it_may_not_do,
    test_without_the_right_to_see_sessions_all_goes_on,
)

from .servers import DebianServer, debian_server, may_connect


@pytest.fixture
def bare_server() -> Iterator[DebianServer]:
    """A server that nobody has set up."""
    with debian_server() as running:
        yield running


def test_passwords_are_set_and_changed_and_otherwise_left(bare_server: DebianServer) -> None:
    run_as_admin(bare_server, ADMIN)
    admin = bare_server.url("postgres", "cloud_admin")
    roles = ("writer", "reader", "console", "monitor")
    first = {role: f'{role}\'s \\ "%s" {{word}}' for role in roles}
    bootstrap_warehouse(admin, passwords=first)
    bootstrap_warehouse(admin)
    for role, password in first.items():
        assert may_connect(bare_server.network_url("warehouse", f"mf_{role}", password))
        assert not may_connect(bare_server.network_url("warehouse", f"mf_{role}", "guess"))

    bootstrap_warehouse(admin, passwords={"reader": "changed"})
    assert may_connect(bare_server.network_url("warehouse", "mf_reader", "changed"))
    assert not may_connect(bare_server.network_url("warehouse", "mf_reader", first["reader"]))
    assert may_connect(bare_server.network_url("warehouse", "mf_writer", first["writer"]))
