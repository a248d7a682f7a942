"""What the attacks are, who can try them, and how each one is closed.

Attackers: a another tenant through the API; b somebody with full SQL as an application's login; c the next borrower of
a pooled connection; d an operator who edits history.
"""

from __future__ import annotations

from typing import NamedTuple

#: The numbers there have to be. Those left out are not ours to close or not of this design.
NUMBERS = frozenset(
    [*range(1, 32), *range(34, 39), 40, 42, 43, 44, 47, 48, *range(50, 61), 62, 63, 65, 67, 70, 71],
)


class Attack(NamedTuple):
    """One attack. closed: how. open: what of it is not closed, or why there is no test yet."""

    number: int
    title: str
    by: str
    closed: str
    open: str = ""


CONTEXT = [
    Attack(
        1,
        "Forge the tenant setting with SET or set_config inside one SELECT",
        "b",
        "Settings are believed only with a MAC under a secret that no login can read.",
    ),
    Attack(
        2,
        "Forge it in the startup packet, in PGOPTIONS, or for a role or database",
        "b",
        "As 1. PgBouncer refuses such options; ALTER ROLE and ALTER DATABASE refuse them from a login, and what an "
        "administrator sets is believed no more.",
    ),
    Attack(
        3,
        "Rely on REVOKE SET ON PARAMETER, which keeps nobody from writing a setting",
        "b",
        "Nothing relies on it.",
    ),
    Attack(4, "Use the empty setting that a local SET leaves behind", "bc", "Empty means: no tenant."),
    Attack(
        5,
        "Replay a genuine context: later, in another session or backend, after its end",
        "bc",
        "The MAC covers backend, start of transaction and expiry. The tests end transactions in every way, two-phase "
        "commit too, and try a parallel worker and an exported snapshot.",
        "transactions that one message begins have one start, so their sender can keep its context from one to the "
        "next, for the tenant whose credential it presented",
    ),
    Attack(
        6,
        "RESET ROLE, SET ROLE or SET SESSION AUTHORIZATION to a wider role",
        "b",
        "Authorisations go by session_user. A login is a member of the application's group alone, which has no right "
        "on a table.",
    ),
    Attack(
        7,
        "Read a token or a secret in tables, catalogues, statements, logs, errors or dumps",
        "bc",
        "Only the operator's functions read secrets. No message of ours quotes a credential; sent as a parameter it is "
        "in no statement text. Sent by pydb it is in no error and no log either, whatever a login has set.",
        "the server logs parameters, literals and plans if an administrator tells it to, and a full dump holds the "
        "secrets: see above",
    ),
    Attack(
        8,
        "Tokens: expired, early, foreign audience or key, mended signature, other alg, huge, doubled claims, wildcards",
        "b",
        "One algorithm, one spelling, no claim twice, 24 hours at most; more in `tests/test_token.py`. Digests are "
        "compared, and the work is the same for an unknown key: no test holds that, `python -m bench.token_timing` "
        "measures the time.",
        "a stolen token is good for a login that is authorised for its tenant, until it ends",
    ),
]

RIGHTS = [
    Attack(
        9,
        "Read as a table's owner, whom row level security spares unless it is forced",
        "b",
        "Row level security is forced on every table that holds something of a tenant or a secret; the owning roles "
        "cannot log in, and no application is a member. In the common pattern the application often owns its table.",
    ),
    Attack(
        10,
        "Start the application as a superuser, a BYPASSRLS login or an owner, or as a login that may become one",
        "b",
        "`authorize_login` refuses superusers, BYPASSRLS, CREATEROLE, REPLICATION and members of such roles or of the "
        "owning ones, however many groups away (TN006), and pydb does not start as one (tried by "
        "`tests/test_doctor.py`); a login that was not authorised names no tenant.",
    ),
    Attack(
        11,
        "TRUNCATE, which asks no policy",
        "b",
        "No login has a right on any table.",
    ),
    Attack(
        12,
        "Ask a foreign key of one's own whether a row exists",
        "b",
        "No login has REFERENCES, or any other right, on a table.",
    ),
    Attack(
        13,
        "Read through a view that runs with its owner's rights",
        "b",
        "The one view belongs to a role on which row level security is forced, and shows the tenant of `set_tenant` "
        "alone. In the common pattern a view of a superuser shows everything.",
    ),
    Attack(
        14,
        "Read a materialized view, which holds rows without policies",
        "b",
        "There is none. One that a reader of the view makes holds what that reader saw.",
    ),
    Attack(
        15,
        "Put objects of one's own in front of what a SECURITY DEFINER function names",
        "b",
        "Every such function pins `search_path = pg_catalog, pg_temp`. The test shadows all functions, operators, "
        "types, collations and relations that the catalog says are named, and calls the whole API.",
    ),
    Attack(
        16,
        "Use what PUBLIC may do with new objects",
        "b",
        "Default privileges of the owning roles give PUBLIC nothing, and nobody else may create in the schemas.",
    ),
    Attack(17, "Address a partition, which has no policy of its own", "b", "No table has partitions or children."),
    Attack(
        18,
        "Move a row to another tenant by an update",
        "b",
        "A new row has to be the tenant's whose context there is, also by the hand of the tables' owner, and of lent "
        "models it stays with their owners. Grants are the exception: the sharing functions see and write those "
        "of all tenants, and their conditions alone keep them apart.",
    ),
]

SERVER = [
    Attack(
        19,
        "CVE-2026-116311: DROP OWNED BY removes oneself from a restrictive policy",
        "b",
        "No policy is restrictive and none names a role that a login is in. The common pattern is open on a server "
        "older than November 2026.",
    ),
    Attack(
        20,
        "CVE-2026-120154: a leaky condition of ON CONFLICT sees hidden rows",
        "b",
        "It takes INSERT on a table, which no login has.",
    ),
    Attack(
        21,
        "CVE-2026-16237: ON CONFLICT through a view updates rows that the view hides",
        "b",
        "It takes INSERT on a view; ours takes no rows, and its readers have SELECT alone.",
    ),
    Attack(
        22,
        "CVE-2026-116327: a leaky operator in a CASE counts as harmless and is shown hidden rows",
        "b",
        "It takes SELECT on a table, which no login has; the reporting view takes its rows from a function, and a "
        "condition on a function's result sees that result.",
    ),
    Attack(
        23,
        "CVE-2026-14666: a cached plan survives a change of roles",
        "bc",
        "No plan depends on a role that changes: functions run as their owner, and a policy asks for the tenant each "
        "time it runs.",
    ),
    Attack(
        24,
        "CVE-2025-8713: statistics read through a view",
        "b",
        "Statistics are shown to whoever may read the column, and no login may; the view is a security barrier.",
    ),
    Attack(
        25,
        "CVE-2024-10976: row level security below a subquery ignores a change of role",
        "bc",
        "As 23; the test repeats plans over the view across tenants, roles and revoked rights.",
    ),
    Attack(26, "CVE-2023-39418: MERGE ignores policies", "b", "It takes rights on a table, which no login has."),
    Attack(
        27,
        "CVE-2023-2455: policies of another role after a function was inlined",
        "bc",
        "As 23; policies name the owning roles alone.",
    ),
    Attack(28, "CVE-2016-2193: a plan is reused under another role", "bc", "As 23."),
    Attack(
        29,
        "CVE-2019-10130, CVE-2017-7484: an estimator shows statistics to a leaky operator",
        "b",
        "As 24. On a table without policies, which the test also tries, the operator is shown the commonest values.",
    ),
    Attack(
        30,
        "CVE-2017-15099: INSERT ON CONFLICT DO UPDATE reads what one may not select",
        "b",
        "As 20; the tables' owner itself is refused a row of another tenant.",
    ),
    Attack(
        31,
        "CVE-2024-4317: pg_stats_ext shows statistics of others' columns",
        "b",
        "It shows them to whoever may read the table, and no login may.",
    ),
]

ORACLES = [
    Attack(
        34,
        'EXPLAIN ANALYZE: "Rows Removed by Filter" counts the others\' rows',
        "b",
        "EXPLAIN of a call, or of the reporting view, shows a call. Plans inside stay unseen whatever a session "
        "switches on.",
    ),
    Attack(
        35,
        "EXPLAIN: estimates out of everybody's statistics",
        "b",
        "Plans of calls and of the reporting view are the same whatever others store.",
    ),
    Attack(36, "A sequential scan shows the total of rows", "b", "As 34."),
    Attack(
        37,
        "Leakproof operators are asked before the policy, and take their time",
        "b",
        "No login can put a condition on a table.",
    ),
    Attack(
        38,
        "A unique violation tells what another tenant has",
        "a",
        "Every unique key that a tenant can meet leads with the tenant. Names of signing keys are one for all, and the "
        "administrators' alone.",
    ),
    Attack(40, "A foreign key without the tenant cascades into another's rows", "a", "There are no foreign keys."),
    Attack(
        42,
        "Sizes and counters: pg_class, pg_stat_user_tables, pg_relation_size",
        "b",
        "None counts a single tenant: no table or index belongs to one. The test holds the complete list.",
        "PostgreSQL shows everybody how many rows, pages and changes all tenants have together, and a call's own "
        "transaction how many it touched",
    ),
    Attack(
        43,
        "Errors and notices that quote another tenant's data",
        "a",
        "Messages hold no value, details only the caller's own. The test calls every function with random arguments.",
    ),
    Attack(
        44,
        "Tell what is there and forbidden from what is not there, by code, text or time",
        "a",
        "One code and one text, and by the counters the same work; `python -m bench.oracle_timing` measures the time.",
        "revoking by a share's id reads one row more when it exists. The id has 122 random bits",
    ),
]

POOL = [
    Attack(
        47,
        "Leave something in a pooled session: LISTEN, locks, prepared statements, roles, settings, temporary tables",
        "c",
        "Our functions and pydb leave nothing. What others leave changes no answer, no right, no stored value and no "
        "commit: `test_settings` tries every setting that a login may change, for a session, for a login and as an "
        "option; custom ones, which no list shows, `tests/test_layout.py` looks for in our functions. No call that "
        "carries a token is prepared by name, and none in a pool of pydb's.",
        "within one login a leftover can make the next calls fail; a replaced statement can take a call by key in a "
        "pool of the application's that prepares; a client other than pydb sees its token in its own error text; and "
        "what the victim's own statements leave is the next one's. The reset of `deploy/pgbouncer.ini` between "
        "borrowers closes these, but for ALTER ROLE, which `pydb doctor` lists",
    ),
    Attack(
        48,
        "Mix tenants up through PgBouncer in transaction or statement mode",
        "c",
        "A context ends with its transaction. The test runs the API for two tenants at once over two connections.",
    ),
]

UNCOVERED = [
    Attack(50, "Large objects", "b", "None is used. In an application with one login, any tenant reads them all."),
    Attack(51, "NOTIFY, which every login may listen to", "b", "Nothing is notified."),
    Attack(
        52,
        "Advisory locks, which anybody may take and keep",
        "b",
        "None is used, not by the migrations either.",
    ),
    Attack(
        53,
        "Read others' statements in pg_stat_activity and pg_stat_statements",
        "b",
        "PostgreSQL hides the statements of other logins.",
        "sessions of one login see each other's statements, with the values written in them. pydb sends values apart; "
        "give each application its own login",
    ),
    Attack(
        54,
        "Read secrets in the text of policies, functions and other definitions",
        "b",
        "There is none in them; the test searches all that the catalogues show.",
    ),
    Attack(
        55,
        "Logical replication and publications, which know no policy",
        "b",
        "No login may create a publication, a slot or a subscription, or read a slot.",
    ),
    Attack(56, "pg_dump as the application's login", "b", "It fails for want of rights, with row security too."),
    Attack(57, "COPY", "b", "No login has a right on a table, nor on files and programs of the server."),
    Attack(
        58,
        "row_security = off",
        "bc",
        "It makes every call an error, and no way around. Set for a session it spoils the pooled connection for the "
        "same login's next borrower; `server_reset_query` mends that.",
    ),
    Attack(
        59,
        "DISABLE TRIGGER and session_replication_role = replica",
        "bd",
        "Refused to every login. A superuser's gap shows: the triggers of the log fire always, also as a replica, and "
        "when they are off `verify_audit` finds models, artifacts and grants that are not as the log says.",
    ),
    Attack(67, "A NOTIFY for each write, which makes commits of all databases wait", "a", "As 51: there is none."),
]

AUDIT = [
    Attack(
        60,
        "A superuser rewrites events and seals",
        "d",
        "Each event is a leaf of a Merkle tree, each root is in a chain of seals, and those are in a chain of "
        "checkpoints: who rewrites all of it ends in another checkpoint than the one that was kept outside.",
        "what is not sealed yet, and the newest seals that no checkpoint kept outside covers. Seal every second, and "
        "keep checkpoints elsewhere",
    ),
    Attack(62, "Deleting a tenant deletes its trail", "d", "Nothing that belongs to a tenant leads to its log's rows."),
    Attack(
        63,
        "Plaintext stays in tables, dead rows or indexes after an erasure",
        "d",
        "`pydb erase --rewrite` writes the tables and indexes anew after the erasure. The write-ahead log and backups "
        "keep old bytes until they are recycled.",
    ),
    Attack(
        65,
        "A cache key without the tenant",
        "a",
        "A name in Redis is an HMAC under the tenant's own key, which only the database gives; a value is sealed under "
        "it, and bound to the sha256 of its bytes. So one in another's place does not open, and is read from the "
        "database.",
        "who holds Redis sees how much is read and when, can empty it, and can make reads slower",
    ),
    Attack(
        70,
        "Evidence goes in spite of a legal hold: by a deletion that was begun before, or an older snapshot",
        "b",
        "What deletes or replaces looks for a hold once more when it commits, under a lock that a hold takes as well.",
        "whoever keeps a deletion from ending delays the hold by 5 seconds; it then fails and names the session",
    ),
    Attack(
        71,
        "One tenant fills the disk, and nobody can save any more",
        "a",
        "`pydb quota` limits models and bytes; the total is locked until the commit, so no writers pass it together.",
        "without a quota there is no limit; states, versions and events are not bytes of a quota; what is rolled back "
        "takes space until the next VACUUM",
    ),
]

ATTACKS = [*CONTEXT, *RIGHTS, *SERVER, *ORACLES, *POOL, *UNCOVERED, *AUDIT]
