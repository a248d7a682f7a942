"""pydb against the catalog: every call is a function of the API, every function of the API is a call."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pickle
import pkgutil
import re
import subprocess
import sys
from typing import Any, get_args, get_type_hints

import psycopg
import pytest

import pydb
from pydb import (
    AsyncTenantAwareStorage,
    TenantAwareStorage,
    adapters,
    aio,
    artifact,
    cache,
    calls,
    code_hash,
    environment,
    errors,
    session,
    storage,
    web,
)
from pydb.calls import Call
from tests.conftest import Database

# load_model is load_progress of one model that there has to be.
BUILDERS = {
    name: getattr(calls, name)
    for name in calls.__all__
    if inspect.isfunction(getattr(calls, name)) and name != "load_model"
}
ARGUMENT = re.compile(r"(p_\w+) => %s(?:::([a-z ]+))?")
# Types by keywords of the grammar. A cast to any other is read by the search path, and a pooled session may keep
# somebody's temporary type of that name; without one the parameter takes the function's type.
KEYWORDS = ("bigint", "boolean", "double precision", "integer", "interval", "timestamp with time zone")


def build(builder: Any) -> Call[Any]:
    required = [
        parameter
        for parameter in inspect.signature(builder).parameters.values()
        if parameter.default is inspect.Parameter.empty
    ]
    return builder(*([] if parameter.name in ("items", "targets") else "x" for parameter in required))


@pytest.mark.sql
def test_every_call_is_one_function_with_its_parameters_in_order(database: Database) -> None:
    rows = (
        database.connect()
        .execute(
            """
        select p.proname, p.pronargs, p.proargnames, p.proargtypes::regtype[]::text[], p.proretset
        from pg_proc as p where p.pronamespace = 'ai_storage'::regnamespace
        """
        )
        .fetchall()
    )
    functions = {
        name: (list(zip(names or [], types, strict=False))[:count], many) for name, count, names, types, many in rows
    }
    assert set(functions) == set(BUILDERS)
    for name, builder in BUILDERS.items():
        call = build(builder)
        expected, many = functions[name]
        assert re.match(rf"select ([a-z0-9_, ]+ from )?ai_storage\.{name}\(", call.query), name
        assert ARGUMENT.findall(call.query) == [(arg, kind if kind in KEYWORDS else "") for arg, kind in expected], name
        assert call.query.count("::") == len([kind for _, kind in expected if kind in KEYWORDS]), name
        assert (" from " in call.query) == many, name
        assert call.query.count("%s") == len(call.bind("credential")), name
        assert call.tenant == (bool(expected) and expected[-1][0] == "p_as"), name


@pytest.mark.sql
def test_rows_have_the_columns_of_their_function(database: Database) -> None:
    connection = database.connect()
    for name, builder in BUILDERS.items():
        result = get_args(get_type_hints(builder)["return"])[0]
        row = next((cls for cls in (result, *get_args(result)) if dataclasses.is_dataclass(cls)), None)
        ((columns,),) = connection.execute(
            "select array(select n from unnest(proargnames, proargmodes) as a(n, m) where m = 't') "
            "from pg_proc where pronamespace = 'ai_storage'::regnamespace and proname = %s",
            (name,),
        ).fetchall()
        if row is not None:
            assert columns == [field.name for field in dataclasses.fields(row)], name
        if " from " in build(builder).query:
            assert build(builder).query.startswith(f"select {', '.join(columns or [name])} from "), name


@pytest.mark.sql
def test_a_release_may_add_a_column_to_an_answer(database: Database) -> None:
    mine = database.storage("acme:s:p:e:c")
    mine.save_ai_progress("m", 0.5)
    expected = [mine.load_history("m") for _ in range(8)]  # psycopg prepares it in its sixth use
    admin = database.connect()
    with admin.transaction():
        admin.execute("alter function ai_storage.load_history rename to load_history_before")
        admin.execute(
            "create function ai_storage.load_history("
            "p_model_name text, p_owner text default null, p_before_version bigint default null, "
            "p_limit integer default 1000, p_as text default null) "
            "returns table (note text, version bigint, mse double precision, training_samples bigint, metrics jsonb, "
            "metadata jsonb, saved_at timestamptz, saved_by text) language sql as "
            "$$ select 'new', h.* from ai_storage.load_history_before($1, $2, $3, $4, $5) as h $$"
        )
        admin.execute("grant execute on function ai_storage.load_history to ai_storage_app")
    assert mine.load_history("m") == database.storage("acme:s:p:e:c").load_history("m") == expected[0]


def test_no_function_minds_the_collation_of_its_arguments(database: Database) -> None:
    connection = database.connect()
    sqlstates = {}
    for name, builder in BUILDERS.items():
        call = build(builder)
        (texts,) = connection.execute(
            "select array(select a.name from unnest(proargnames, proargtypes::oid[]) as a (name, kind) "
            "where a.kind = 'text'::regtype) from pg_proc where pronamespace = 'ai_storage'::regnamespace "
            "and proname = %s",
            (name,),
        ).fetchone()
        query = ARGUMENT.sub(
            lambda found, texts=texts: found[0] + '::text collate "POSIX"' if found[1] in texts else found[0],
            call.query,
        )
        assert query.count("POSIX") == len(texts), name
        try:
            connection.execute(query, call.bind("acme:s:p:e:c"))
        except psycopg.Error as error:
            sqlstates[name] = error.sqlstate
    # The dummy arguments are refused in many ways, but none for its collation.
    assert not {"42P21", "42P22"} & set(sqlstates.values()), sqlstates


def test_every_call_names_its_source_and_its_errors() -> None:
    for name, builder in BUILDERS.items():
        assert re.search(rf"Source: sql/\d\d_\w+\.sql, ai_storage\.{name}\n", builder.__doc__), name
        for code in re.findall(r"\((TN\d{3}|22023|54000)\)", builder.__doc__):
            assert code in {cls.sqlstate for cls in errors.StorageError.__subclasses__()}, name


@pytest.mark.parametrize(
    "module", [pydb, calls, errors, session, aio, adapters, artifact, cache, storage, environment, web, code_hash]
)
def test_all_is_what_a_module_defines(module: Any) -> None:
    assert len(module.__all__) == len(set(module.__all__))
    assert all(hasattr(module, name) for name in module.__all__)
    if module is not pydb:
        defined = {
            name
            for name, value in vars(module).items()
            if getattr(value, "__module__", None) == module.__name__ and not name.startswith("_")
        }
        assert defined - {"T", "P", "translate"} <= set(module.__all__)


def test_the_two_storages_have_the_same_methods() -> None:
    def methods(cls: type) -> dict[str, list[str]]:
        return {
            name: list(inspect.signature(getattr(cls, name)).parameters)
            for name, value in vars(cls).items()
            if inspect.isfunction(getattr(value, "__func__", value)) and not name.startswith("_")
        }

    assert methods(TenantAwareStorage) == methods(AsyncTenantAwareStorage)


def test_the_storages_tell_of_artifacts_what_their_module_tells() -> None:
    for cls in (TenantAwareStorage, AsyncTenantAwareStorage):
        assert cls.put_artifact.__doc__.split() == artifact.put.__doc__.split()
        assert cls.get_artifact.__doc__.split() == artifact.get.__doc__.split()


def test_a_result_from_a_row_is_like_one_that_was_made() -> None:
    seen = set()
    for builder in BUILDERS.values():
        result = get_args(get_type_hints(builder)["return"])[0]
        cls = next((one for one in get_args(result) if dataclasses.is_dataclass(one)), None)
        if cls is None:
            continue
        seen.add(cls)
        row = tuple(range(len(dataclasses.fields(cls))))
        parse = build(builder).parse
        made, again = parse([row, row])
        assert (type(made), made, hash(made), repr(made)) == (cls, cls(*row), hash(cls(*row)), repr(cls(*row)))
        assert made == again
        assert made is not again
        assert pickle.loads(pickle.dumps(made)) == dataclasses.replace(made) == made
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(made, dataclasses.fields(cls)[0].name, None)
        with pytest.raises(TypeError):
            parse([row[:-1]])
    assert {calls.Progress, calls.Version, calls.Grant, calls.AuditEvent} < seen


def test_no_query_of_pydb_takes_whatever_columns_there_are() -> None:
    for name, builder in BUILDERS.items():
        assert "*" not in build(builder).query, name
    assert "*" not in storage.LOGIN_POWERS.query


# Names of tenants and models, which are no secrets.
NAMES = {"isolation_key", "owner_key", "key", "path", "url"}


def test_nothing_shows_a_secret_in_its_repr() -> None:
    shown, hidden = set(), set()
    for module in pkgutil.iter_modules(pydb.__path__, "pydb."):
        if module.name in ("pydb.__main__", "pydb.demo"):
            continue
        for cls in vars(importlib.import_module(module.name)).values():
            if isinstance(cls, type) and dataclasses.is_dataclass(cls) and cls.__module__ == module.name:
                for one in dataclasses.fields(cls):
                    if re.search("secret|token|password|credential|params|dsn|key", one.name) and one.name not in NAMES:
                        (shown if one.repr else hidden).add(f"{cls.__name__}.{one.name}")
    # AuditEvent.credential says of what kind it was. The others say whether there is one.
    assert shown <= {"AuditEvent.credential", "Authorization.token_only", "Call.secret"}
    assert {"Call.params", "NewSigningKey.secret", "Opened.cache_key", "RequestTenant.credential"} <= hidden


def test_the_core_imports_nothing_that_is_not_call_a_function() -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", "import sys, pydb; print(*sys.modules)"], capture_output=True, text=True, check=True
    ).stdout.split()
    outside = {"pydb.cli", "pydb.migrate", "pydb.embedded", "pydb.demo", "yoyo", "sklearn", "matplotlib", "argparse"}
    outside |= {"pydb.cache", "redis", "cryptography", "pydb.importer"}
    outside |= {"pydb.environment", "pydb.web", "pydb.code_hash", "pydb.identity"}
    outside |= {"pydb.artifact", "pydb.transfer", "psycopg_pool", "pydb.metrics", "pydb.tracing", "opentelemetry"}
    assert outside & set(loaded) == set()


def test_the_release_is_the_same_everywhere(database: Database) -> None:
    assert session.run(database.connect("app"), calls.version()) == pydb.__version__
    from importlib.metadata import version

    assert version("tenant-ai-storage") == pydb.__version__


def test_an_error_keeps_its_detail_and_hint(database: Database) -> None:
    mine = database.storage("acme:s:p:e:c")
    mine.save_ai_progress("m", 0.5)
    with pytest.raises(errors.VersionConflict) as caught:
        mine.save_ai_progress("m", 0.4, expected_version=7)
    assert "7" in caught.value.detail
    assert caught.value.hint
    assert isinstance(caught.value.__cause__, psycopg.Error)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object()])
def test_metadata_that_is_not_json_is_refused_before_it_is_sent(value: object) -> None:
    with pytest.raises(errors.InvalidArgument):
        calls.save_progress("m", 0.5, metadata={"value": value})


def test_values_that_the_driver_or_a_cast_refuses_are_invalid_arguments(database: Database) -> None:
    mine = database.storage("acme:s:p:e:c")
    for arguments in ({"model_name": "nul\0"}, {"model_name": "m", "training_samples": 2**70}):
        with pytest.raises(errors.InvalidArgument):
            mine.save_ai_progress(**arguments, mse=0.5)
    assert mine.load_ai_progress() == []


def test_a_text_with_half_a_character_is_an_invalid_argument_of_every_call(database: Database) -> None:
    connection = database.connect("app")
    tried = 0
    for name, builder in BUILDERS.items():
        call = build(builder)
        half = tuple("caf\udce9" if isinstance(param, str) else param for param in call.params)
        for params, credential in ((half, "acme:s:p:e:c"), (call.params, "acme:s:p:e:\ud83d")):
            if "caf\udce9" in params or (call.tenant and params is not half):
                tried += 1
                with pytest.raises(errors.InvalidArgument) as caught:
                    session.run(connection, dataclasses.replace(call, params=params), credential)
                assert caught.value.hint, name
    assert tried > 60
