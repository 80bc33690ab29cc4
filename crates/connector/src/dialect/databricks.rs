//! Databricks. Source: the ANSI reserved keywords of Spark SQL. EVENT_DATE is the column by which its event
//! tables may be partitioned.

/// Upper case, sorted.
#[rustfmt::skip] // one word a line would hide the list
pub(super) const RESERVED: &[&str] = &[
    "ALL", "ALTER", "AND", "ANTI", "ANY", "ARRAY", "AS", "AT", "AUTHORIZATION", "BETWEEN", "BOTH", "BY",
    "CASE", "CAST", "CHECK", "COLLATE", "COLUMN", "COMMIT", "CONSTRAINT", "CREATE", "CROSS", "CUBE",
    "CURRENT", "CURRENT_DATE", "CURRENT_TIME", "CURRENT_TIMESTAMP", "CURRENT_USER", "DELETE", "DESCRIBE",
    "DISTINCT", "DROP", "ELSE", "END", "ESCAPE", "EVENT_DATE", "EXCEPT", "EXISTS", "EXTERNAL", "EXTRACT",
    "FALSE", "FETCH", "FILTER", "FOR", "FOREIGN", "FROM", "FULL", "FUNCTION", "GLOBAL", "GRANT", "GROUP",
    "GROUPING", "HAVING", "IN", "INNER", "INSERT", "INTERSECT", "INTERVAL", "INTO", "IS", "JOIN", "LATERAL",
    "LEADING", "LEFT", "LIKE", "LOCAL", "MINUS", "NATURAL", "NO", "NOT", "NULL", "OF", "ON", "ONLY", "OR",
    "ORDER", "OUT", "OUTER", "OVERLAPS", "PARTITION", "POSITION", "PRIMARY", "RANGE", "REFERENCES", "REVOKE",
    "RIGHT", "ROLLBACK", "ROLLUP", "ROW", "ROWS", "SELECT", "SEMI", "SESSION_USER", "SET", "SOME", "START",
    "TABLE", "TABLESAMPLE", "THEN", "TIME", "TO", "TRAILING", "TRUE", "TRUNCATE", "UNION", "UNIQUE",
    "UNKNOWN", "UPDATE", "USER", "USING", "VALUES", "WHEN", "WHERE", "WINDOW", "WITH",
];
