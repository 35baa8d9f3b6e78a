"""What makes a statement cheap that a process sends again and again, as a worker does."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ExecutionContext, String
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

#: Execution options of such a statement: PostgreSQL prepares it when it is first used, not at its sixth use.
REPEATED = {"trainyard_repeated": True}


class plan_once(FunctionElement[str]):  # noqa: N801 - reads as an SQL function
    """The SQL expression that makes PostgreSQL plan a prepared statement only once, until this transaction ends.

    Otherwise it plans each of the first five uses for its values. For a look by keys that takes longer than the look.
    """

    type = String()
    inherit_cache = True


@compiles(plan_once, "sqlite")
def _plan_once_sqlite(element: plan_once, compiler: Any, **kw: Any) -> str:
    return "NULL"


@compiles(plan_once, "postgresql")
def _plan_once_postgresql(element: plan_once, compiler: Any, **kw: Any) -> str:
    return "set_config('plan_cache_mode', 'force_generic_plan', true)"


def prepare(cursor: Any, statement: str, parameters: Any, context: ExecutionContext | None) -> bool:
    """Run a statement with these options by psycopg, and leave all others to SQLAlchemy (`do_execute`)."""
    if context is None or not context.execution_options.get("trainyard_repeated"):
        return False
    cursor.execute(statement, parameters, prepare=True)
    return True
