package mysql

import (
	"fmt"
	"testing"
)

// TestShownKeys: foreign keys as SHOW CREATE TABLE writes them, in each of the ways to quote.
func TestShownKeys(t *testing.T) {
	table := func(line string) string {
		return "CREATE TABLE `kids` (\n  `id` int(11) NOT NULL DEFAULT 'FOREIGN',\n  PRIMARY KEY (`id`),\n  KEY `p` (`p`)," + line + "\n) ENGINE=InnoDB"
	}
	for _, c := range []struct {
		line, want string
		ok         bool
	}{
		{"", "[]", true},
		{"\n  CONSTRAINT `kids_ibfk_1` FOREIGN KEY (`p`) REFERENCES `app`.`parents` (`id`) ON DELETE CASCADE", "[{kids_ibfk_1 [p] app parents [id] 1 0}]", true},
		{"\n  CONSTRAINT `a` FOREIGN KEY (`p`, `q`) REFERENCES `parents` (`x`, `y`) ON DELETE SET NULL ON UPDATE CASCADE,\n  CONSTRAINT `b` FOREIGN KEY (`q`) REFERENCES `o` (`id`)",
			"[{a [p q]  parents [x y] 2 1} {b [q]  o [id] 0 0}]", true},
		{"\n  CONSTRAINT \"a b\" FOREIGN KEY (\"p\"\"(\") REFERENCES \"my.app\".\"the parents\" (\"i,d\") ON UPDATE SET NULL", "[{a b [p\"(] my.app the parents [i,d] 0 2}]", true},
		{"\n  CONSTRAINT a FOREIGN KEY (p) REFERENCES app.parents (id) ON DELETE NO ACTION ON UPDATE NO ACTION", "[{a [p] app parents [id] 0 0}]", true},
		{"\n  CONSTRAINT `a` FOREIGN KEY (`p`) REFERENCES ?", "[]", false},
		{"\n  CONSTRAINT `a` FOREIGN KEY (`p`, `q`) REFERENCES `parents` (`x`)", "[]", false},
	} {
		keys, ok := shownKeys(table(c.line))
		if got := fmt.Sprint(keys); got != c.want || ok != c.ok {
			t.Errorf("%s: %s, %v; want %s, %v", c.line, got, ok, c.want, c.ok)
		}
	}
}
