# Only statements that read reach the database. The account and the transaction can only read, too: this
# says why before anything is asked.
package shop.statements

reading := {"explain", "select", "show", "table", "with"}

writing := {
	"alter", "call", "copy", "create", "delete", "do", "drop", "grant", "insert", "merge", "revoke", "set",
	"truncate", "update", "vacuum",
}

deny contains message if {
	is_query
	not words[0] in reading
	message := sprintf("a statement begins with one of %s", [concat(", ", sort(reading))])
}

deny contains message if {
	is_query
	some word in words
	word in writing
	message := sprintf("`%s` is no word of a statement that reads", [word])
}

deny contains "one statement at a time" if {
	is_query
	contains(trim_right(trim_space(input.tool.args.statement), ";"), ";")
}

is_query if input.tool.name == "query-database"

# In lower case, with marks and brackets as gaps.
words := [word |
	text := strings.replace_n({"(": " ", ")": " ", ",": " ", ";": " ", "\n": " ", "\t": " "}, lower(input.tool.args.statement))
	some word in split(text, " ")
	word != ""
]
