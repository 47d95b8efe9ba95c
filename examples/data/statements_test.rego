package shop.statements_test

import data.shop.statements

denied(statement) := said if {
	said := statements.deny with input as {"tool": {"name": "query-database", "args": {"statement": statement}}}
}

test_reading_is_let_through if {
	every statement in [
		"SELECT * FROM orders", "select count(*) from orders;", "  WITH a AS (SELECT 1) TABLE a",
		"EXPLAIN SELECT 1", "SHOW server_version",
	] {
		count(denied(statement)) == 0
	}
}

test_writing_is_refused if {
	every statement in [
		"DELETE FROM orders", "WITH gone AS (DELETE FROM orders RETURNING *) SELECT * FROM gone",
		"EXPLAIN ANALYZE UPDATE orders SET paid = true", "COPY orders TO '/tmp/x'", "SELECT 1;DROP TABLE orders", "",
	] {
		count(denied(statement)) > 0
	}
}

test_the_message_tells_what_to_write if {
	"a statement begins with one of explain, select, show, table, with" in denied("VACUUM")
}

test_other_tools_are_not_its_business if {
	count(statements.deny) == 0 with input as {"tool": {"name": "spark-sql", "args": {"query": "DROP TABLE x"}}}
}
