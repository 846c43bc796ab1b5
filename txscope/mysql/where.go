package mysql

import (
	"slices"
	"strings"

	"github.com/alkey-go/alkey/txscope/internal/sqltext"
)

// deterministic reports whether the value of an expression depends on the row only.
func deterministic(expression string) bool {
	_, ok := chooses(expression)
	return ok
}

// chooses reads what follows the table and the SET of an UPDATE or DELETE. It is stable if it chooses by
// what is in the rows and nothing else: no other table, no clock, no chance, no variable, and no LIMIT,
// since which rows come first is not certain. In doubt it is not. It counts the placeholders.
func chooses(text string) (placeholders int, stable bool) {
	// A backslash in a string means one thing or another by the server's mode.
	list, ok := sqltext.Tokens(sqltext.MySQL, text)
	if !ok || strings.Contains(text, `\`) {
		return 0, false
	}
	var last, before sqltext.Token
	for _, t := range list {
		// Comments can be code, and a "--" need be none.
		if strings.TrimLeft(text[last.Span.To:t.Span.From], spaces) != "" || t.Is("-") && last.Is("-") {
			return placeholders, false
		}
		switch {
		case t.Kind == sqltext.Placeholder:
			placeholders++
		case t.Kind == sqltext.Variable,
			t.Kind == sqltext.Sign && !strings.Contains(plainSigns, t.Text),
			t.Kind == sqltext.Word && slices.Contains(unstableWords, t.Text),
			t.Is("(") && !opens(before, last, text):
			return placeholders, false
		}
		before, last = last, t
	}
	return placeholders, strings.TrimLeft(text[last.Span.To:], spaces) == ""
}

// opens reports whether what stands before a parenthesis is no call, or one that is stable. before stands
// before that. A name in quotes is called, whatever it is, and "x" can be a name.
func opens(before, last sqltext.Token, text string) bool {
	switch last.Kind {
	case sqltext.Word:
		return slices.Contains(stableFunctions, last.Text) && !before.Is(".")
	case sqltext.Quoted:
		return false
	case sqltext.Literal:
		return text[last.Span.From] != '"'
	}
	return true
}

const (
	spaces     = " \t\n\v\f\r"
	plainSigns = "()=<>!+-*/%.,&|^~"
)

// unstableWords are those that choose by something else than the row without a parenthesis after them.
var unstableWords = []string{
	"limit", "select", "table", "values", "with", "current", "next", "previous", "procedure", "match", "rownum",
	"nextval", "currval", "lastval",
	"current_timestamp", "current_date", "current_time", "localtime", "localtimestamp", "utc_date", "utc_time", "utc_timestamp", "sysdate",
}

// stableFunctions are functions that give the same for the same, and words before a parenthesis that
// are no functions.
var stableFunctions = []string{
	"where", "and", "or", "xor", "not", "in", "between", "like", "rlike", "regexp", "is", "div", "case", "when", "then", "else", "on", "by", "any", "row", "interval", "binary", "escape", "collate",
	"if", "ifnull", "nullif", "coalesce", "isnull", "least", "greatest", "strcmp",
	"abs", "mod", "floor", "ceil", "ceiling", "round", "truncate", "sign", "pow", "power", "sqrt", "exp", "ln", "log", "log2", "log10", "bit_count",
	"lower", "lcase", "upper", "ucase", "length", "char_length", "character_length", "octet_length", "bit_length", "concat", "concat_ws", "substring", "substr", "substring_index", "mid", "left", "right",
	"trim", "ltrim", "rtrim", "lpad", "rpad", "replace", "insert", "reverse", "repeat", "instr", "locate", "position", "field", "find_in_set", "elt", "hex", "unhex", "ascii", "ord", "char", "cast", "convert", "format",
	"date", "year", "month", "day", "dayofmonth", "hour", "minute", "second", "microsecond", "dayofweek", "weekday", "dayofyear", "week", "yearweek", "quarter", "last_day", "extract",
	"date_add", "date_sub", "adddate", "subdate", "datediff", "timestampdiff", "timestampadd", "date_format", "to_days", "from_days", "to_seconds", "makedate", "str_to_date",
	"json_extract", "json_unquote", "json_value", "json_contains", "json_contains_path", "json_length", "json_type", "json_valid", "json_keys", "json_search", "json_overlaps", "member",
	"md5", "sha1", "sha", "sha2", "crc32", "inet_aton", "inet_ntoa", "inet6_aton", "inet6_ntoa", "uuid_to_bin", "bin_to_uuid", "is_uuid", "regexp_like", "regexp_replace", "regexp_instr", "regexp_substr", "soundex",
}

// otherFunctions are further functions and words before a parenthesis, besides those that users make.
var otherFunctions = []string{
	"now", "curdate", "curtime", "current_timestamp", "current_date", "current_time", "localtime", "localtimestamp", "utc_date", "utc_time", "utc_timestamp", "sysdate", "unix_timestamp", "from_unixtime", "time", "timestamp", "time_format", "sec_to_time", "time_to_sec", "timediff", "addtime", "subtime", "convert_tz",
	"uuid", "uuid_short", "rand", "last_insert_id", "row_count", "found_rows", "connection_id", "user", "current_user", "session_user", "system_user", "database", "schema", "version", "sleep", "benchmark", "get_lock", "release_lock", "is_free_lock", "is_used_lock",
	"count", "sum", "avg", "min", "max", "group_concat", "std", "stddev", "variance", "bit_and", "bit_or", "bit_xor", "json_arrayagg", "json_objectagg", "json_object", "json_array", "json_set", "json_insert", "json_replace", "json_remove", "json_merge", "json_merge_patch", "json_merge_preserve", "json_table", "json_quote", "json_pretty",
	"row_number", "rank", "dense_rank", "lag", "lead", "first_value", "last_value", "nth_value", "ntile", "percent_rank", "cume_dist", "over", "partition",
	"values", "value", "select", "from", "join", "exists", "all", "some", "distinct", "union", "except", "intersect", "as", "into", "using", "set", "limit", "having", "with", "rows", "range", "index", "key", "use", "force", "ignore",
	"varchar", "decimal", "numeric", "int", "bigint", "smallint", "tinyint", "float", "double", "datetime", "enum", "primary", "unique", "references", "check", "default", "foreign",
	"nextval", "lastval", "setval", "aes_encrypt", "aes_decrypt", "password", "encode", "decode", "compress", "uncompress", "random_bytes", "load_file", "export_set", "make_set", "conv", "oct", "bin", "pi", "sin", "cos", "tan", "atan", "atan2", "asin", "acos", "cot", "degrees", "radians", "quote", "space", "to_base64", "from_base64", "weight_string", "any_value", "grouping", "nvl", "nvl2", "name_const", "st_distance", "point",
}

// foreign reports whether a name before a parenthesis may be that of a routine that a user has made.
func foreign(n sqltext.Name) bool {
	name := strings.ToLower(n.Name)
	return n.Qualifier != "" || !slices.Contains(stableFunctions, name) && !slices.Contains(otherFunctions, name)
}
