"""Describes the schema of a database as text, without anything that differs from one day to another.

`schema.txt` is the description of what the migrations make; `test_schema.py` compares the two. After you add a
migration, write the file again and read its changes before you commit it:

    .venv/bin/python -m tests.comms.schema
"""

import re
import tempfile
from itertools import groupby
from pathlib import Path
from typing import Final

import psycopg
from psycopg.rows import TupleRow

from instance.embedded_postgres import EmbeddedPostgres
from instance.provisioning import provision

FILE: Final = Path(__file__).with_suffix(".txt")

# Every statement returns rows of (object, line). Left out: what belongs to an extension, procrastinate's own objects (a
# dependency) and what is the same everywhere (defaults of PostgreSQL, the owner's own rights).
_OURS: Final = (
    "n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast', 'procrastinate') and n.nspname not like 'pg\\_%'"
)
_NO_EXTENSION: Final = (
    "not exists (select from pg_depend d where d.classid = '{catalogue}'::regclass and d.objid = {oid} "
    "and d.deptype = 'e')"
)
_GRANTS: Final = """
    'grant ' || coalesce(nullif(a.grantee, 0)::regrole::text, 'PUBLIC') || ' '
    || string_agg(a.privilege_type || case when a.is_grantable then ' with grant option' else '' end, ', '
        order by a.privilege_type)
    || case when a.grantor = owner then '' else ' by ' || a.grantor::regrole::text end
"""
_RELATION: Final = (
    "(case c.relkind when 'v' then 'view ' when 'S' then 'sequence ' else 'table ' end || c.oid::regclass)"
)
_RELATIONS: Final = f"pg_class c join pg_namespace n on n.oid = c.relnamespace and {_OURS}"

_QUESTIONS: Final = (
    # schemas and extensions
    "select 'extension ' || extname, 'in schema ' || extnamespace::regnamespace from pg_extension",
    "select 'schema ' || nspname, 'owner ' || nspowner::regrole from pg_namespace n "
    f"where {_OURS} or nspname = 'procrastinate'",
    f"select 'schema ' || nspname, {_GRANTS} from (select nspname, nspowner as owner, (aclexplode(nspacl)).* "
    f"from pg_namespace n where {_OURS} or nspname = 'procrastinate') a group by nspname, owner, grantor, grantee",
    # tables, views, sequences
    f"""select {_RELATION}, concat_ws(', ', 'owner ' || c.relowner::regrole,
            case when c.relrowsecurity then 'row security enabled' end,
            case when c.relforcerowsecurity then 'row security forced' end,
            'partitioned by ' || pg_get_partkeydef(c.oid),
            case when c.relispartition then 'partition ' || pg_get_expr(c.relpartbound, c.oid) end,
            'options ' || c.reloptions::text,
            case when c.relpersistence <> 'p' then 'persistence ' || c.relpersistence::text end,
            case when c.relreplident <> 'd' then 'replica identity ' || c.relreplident::text end,
            'of type ' || nullif(c.reloftype, 0)::regtype, 'access method ' || nullif(m.amname::text, 'heap'),
            'tablespace ' || nullif(c.reltablespace, 0))
        from {_RELATIONS} left join pg_am m on m.oid = c.relam
        where c.relkind not in ('i', 'I') and {_NO_EXTENSION.format(catalogue="pg_class", oid="c.oid")}""",
    f"""select {_RELATION}, 'inherits ' || inhparent::regclass || ' ' || inhseqno from pg_inherits
        join {_RELATIONS} on c.oid = inhrelid where c.relkind not in ('i', 'I')""",
    f"""select object, {_GRANTS} from (select {_RELATION} as object, c.relowner as owner, (aclexplode(c.relacl)).*
        from {_RELATIONS} where c.relkind not in ('i', 'I')) a where a.grantee <> owner
        group by object, owner, grantor, grantee""",
    f"""select object, {_GRANTS} || ' (' || attname || ')' from (select {_RELATION} as object, c.relowner as owner,
            t.attname, (aclexplode(t.attacl)).* from {_RELATIONS} join pg_attribute t on t.attrelid = c.oid) a
        group by object, attname, owner, grantor, grantee""",
    f"""select {_RELATION}, concat_ws(' ', 'column', to_char(row_number() over (partition by c.oid order by t.attnum),
            'FM00'), t.attname, format_type(t.atttypid, t.atttypmod), case when t.attnotnull then 'not null' end,
            case when t.attgenerated = '' then 'default ' else 'generated ' || t.attgenerated::text || ' ' end
                || pg_get_expr(f.adbin, f.adrelid),
            'identity ' || nullif(t.attidentity::text, ''),
            'collation ' || case when t.attcollation <> y.typcollation then t.attcollation::regcollation end,
            'storage ' || case when t.attstorage <> y.typstorage then t.attstorage::text end,
            'compression ' || nullif(t.attcompression::text, ''), 'statistics ' || t.attstattarget,
            'options ' || t.attoptions::text)
        from {_RELATIONS} join pg_attribute t on t.attrelid = c.oid and t.attnum > 0 and not t.attisdropped
        join pg_type y on y.oid = t.atttypid left join pg_attrdef f on f.adrelid = c.oid and f.adnum = t.attnum
        where c.relkind not in ('i', 'I', 'S')""",
    f"""select {_RELATION}, concat_ws(' ', 'constraint', k.conname, pg_get_constraintdef(k.oid),
            case when not k.convalidated then 'not validated' end, case when not k.conenforced then 'not enforced' end,
            case when not k.conislocal then 'inherited' end)
        from {_RELATIONS} join pg_constraint k on k.conrelid = c.oid""",
    f"""select {_RELATION}, concat_ws(', ', 'index ' || pg_get_indexdef(i.indexrelid),
            case when i.indisclustered then 'clustered' end, case when not i.indisvalid then 'not valid' end,
            case when i.indisreplident then 'replica identity' end,
            'of ' || (select h.inhparent::regclass from pg_inherits h where h.inhrelid = i.indexrelid))
        from {_RELATIONS} join pg_index i on i.indrelid = c.oid""",
    f"""select {_RELATION}, concat_ws(' ', 'policy', p.polname,
            case when p.polpermissive then 'permissive' else 'restrictive' end, 'for', case p.polcmd
                when 'r' then 'select' when 'a' then 'insert' when 'w' then 'update' when 'd' then 'delete'
                else 'all' end,
            'to', (select string_agg(coalesce(nullif(role, 0)::regrole::text, 'PUBLIC'), ', '
                order by nullif(role, 0)::regrole::text) from unnest(p.polroles) role),
            'using (' || pg_get_expr(p.polqual, c.oid) || ')',
            'with check (' || pg_get_expr(p.polwithcheck, c.oid) || ')')
        from {_RELATIONS} join pg_policy p on p.polrelid = c.oid""",
    f"""select {_RELATION}, concat_ws(' ', 'trigger', pg_get_triggerdef(t.oid),
            case when t.tgenabled <> 'O' then 'fires ' || t.tgenabled::text end,
            case when t.tgparentid <> 0 then 'inherited' end)
        from {_RELATIONS} join pg_trigger t on t.tgrelid = c.oid and not t.tgisinternal""",
    f"""select {_RELATION}, 'rule ' || pg_get_ruledef(r.oid)
        from {_RELATIONS} join pg_rewrite r on r.ev_class = c.oid""",
    f"""select {_RELATION}, to_jsonb(s)::text from {_RELATIONS} join pg_sequences s
        on s.schemaname = n.nspname and s.sequencename = c.relname and s.last_value is null where c.relkind = 'S'""",
    # functions
    f"""select 'function ' || p.oid::regprocedure,
            'owner ' || p.proowner::regrole || e'\\n' || pg_get_functiondef(p.oid)
        from pg_proc p join pg_namespace n on n.oid = p.pronamespace and {_OURS}
        where p.prokind <> 'a' and {_NO_EXTENSION.format(catalogue="pg_proc", oid="p.oid")}""",
    f"""select object, {_GRANTS} from (select 'function ' || p.oid::regprocedure as object, p.proowner as owner,
            (aclexplode(coalesce(p.proacl, acldefault('f', p.proowner)))).*
        from pg_proc p join pg_namespace n on n.oid = p.pronamespace and {_OURS}
        where {_NO_EXTENSION.format(catalogue="pg_proc", oid="p.oid")}) a where a.grantee <> owner
        group by object, owner, grantor, grantee""",
    # default privileges and comments
    f"""select 'default privileges', concat_ws(' ', object, {_GRANTS}) from (select defaclrole as owner,
            concat_ws(' ', defaclrole::regrole, nullif(defaclnamespace, 0)::regnamespace, defaclobjtype::text)
                as object,
            (aclexplode(defaclacl)).* from pg_default_acl) a group by object, owner, grantor, grantee""",
    """select pg_describe_object(classoid, objoid, objsubid), 'comment ' || description from pg_description
        where objoid >= 16384 and not exists (select from pg_depend d where d.deptype = 'e' and d.classid = classoid
            and d.objid = objoid) and classoid <> 'pg_extension'::regclass""",
    # kinds of objects that have no lines above: named, so that one shows when a migration makes it
    *(
        f"select 'others', pg_describe_object('{catalogue}'::regclass, o.oid, 0) from {catalogue} o "
        f"join pg_namespace n on n.oid = o.{column} and {_OURS} "
        f"where {_NO_EXTENSION.format(catalogue=catalogue, oid='o.oid')} {more}"
        for catalogue, column, more in (
            ("pg_type", "typnamespace", "and o.typrelid = 0 and o.typelem = 0"),
            ("pg_operator", "oprnamespace", ""), ("pg_opclass", "opcnamespace", ""),
            ("pg_opfamily", "opfnamespace", ""), ("pg_collation", "collnamespace", ""),
            ("pg_conversion", "connamespace", ""), ("pg_ts_config", "cfgnamespace", ""),
            ("pg_ts_dict", "dictnamespace", ""), ("pg_ts_parser", "prsnamespace", ""),
            ("pg_ts_template", "tmplnamespace", ""), ("pg_statistic_ext", "stxnamespace", ""),
            ("pg_proc", "pronamespace", "and o.prokind = 'a'"),
        )
    ),
    *(
        f"select 'others', pg_describe_object('{catalogue}'::regclass, o.oid, 0) from {catalogue} o "
        f"where o.oid >= 16384 and {_NO_EXTENSION.format(catalogue=catalogue, oid='o.oid')}"
        for catalogue in (
            "pg_cast", "pg_language", "pg_event_trigger", "pg_publication", "pg_foreign_data_wrapper",
            "pg_foreign_server", "pg_am", "pg_transform",
        )
    ),
)  # fmt: skip

_MONTH: Final = re.compile(r"(partitions\.\w+?)_\d{4}_\d{2}\b")
_BOUND: Final = re.compile(r"'[0-9a-f-]{36}'")


def describe(conn: psycopg.Connection[TupleRow]) -> str:
    """The schema of the database that the administrator is connected to. All months of a table count as one."""
    conn.execute("set search_path to pg_catalog")  # so that every name carries its schema
    lines = {(str(name), str(line)) for question in _QUESTIONS for name, line in conn.execute(question.encode())}
    lines |= _rows(conn)
    conn.execute("reset search_path")
    lines = {_month_alike(name, line) for name, line in lines}
    blocks = (
        "\n".join([name, *(f"    {line}".replace("\n", "\n    ") for _, line in block)])
        for name, block in groupby(sorted(lines), key=lambda pair: pair[0])
    )
    return "\n\n".join(re.sub(r"[ ]+$", "", block, flags=re.MULTILINE).rstrip() for block in blocks) + "\n"


def _rows(conn: psycopg.Connection[TupleRow]) -> set[tuple[str, str]]:
    """The rows that migrations put into tables, of all tables but the list of migrations itself."""
    tables = conn.execute(
        "select oid::regclass::text from pg_class where relkind in ('r', 'p') and not relispartition "
        "and relnamespace in ('public'::regnamespace, 'app'::regnamespace) and relname <> 'schema_migrations'"
    ).fetchall()
    return {
        (f"table {table}", f"row {row}")
        for (table,) in tables
        for (row,) in conn.execute(f"select to_jsonb(t)::text from {table} t".encode())
    }


def _month_alike(name: str, line: str) -> tuple[str, str]:
    """Without what differs from month to month and from day to day, and without names that PostgreSQL chose there."""
    name = _MONTH.sub(r"\1_YYYY_MM", name)
    if not name.startswith("function "):
        line = re.sub(r"\s+", " ", line)
    if name.startswith("table partitions."):
        line = _BOUND.sub("'…'", _MONTH.sub(r"\1_YYYY_MM", line))
        line = re.sub(r"^(index CREATE (?:UNIQUE )?INDEX) \w+", r"\1", line)
        line = re.sub(r"^constraint \w+", "constraint", line)
    return name, line


def main() -> None:
    """Writes `schema.txt` from a new database, on a server that is started for that alone."""
    with tempfile.TemporaryDirectory() as folder:
        server = EmbeddedPostgres(Path(folder))
        server.start()
        try:
            keys = Path(folder) / "keys"
            databases = provision(server.url(), keys, maintenance_url=server.url("postgres"))
            with psycopg.connect(databases.administrator, autocommit=True) as conn:
                FILE.write_text(describe(conn))
        finally:
            server.stop()


if __name__ == "__main__":
    main()
