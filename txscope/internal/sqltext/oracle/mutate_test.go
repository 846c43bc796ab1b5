package oracle

import (
	"bufio"
	"encoding/json"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

// piece is a word, string, comment, sign or the like of a text; the pieces of a text make it up.
type piece struct {
	kind pieceKind
	text string
}

type pieceKind uint8

const (
	space pieceKind = iota
	word
	name // in quotes
	str
	number
	argument
	sign
)

// split divides a text. It need not divide it as a server does: what comes of it is tried anyway.
func split(text string) []piece {
	var pieces []piece
	for len(text) > 0 {
		kind, n := measure(text)
		pieces = append(pieces, piece{kind, text[:n]})
		text = text[n:]
	}
	return pieces
}

func measure(s string) (pieceKind, int) {
	while := func(ok func(c byte) bool) int {
		n := 1
		for n < len(s) && ok(s[n]) {
			n++
		}
		return n
	}
	until := func(kind pieceKind, closing string) (pieceKind, int) {
		if n := strings.Index(s[1:], closing); n >= 0 {
			return kind, 1 + n + len(closing)
		}
		return kind, len(s)
	}
	letter := func(c byte) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c >= utf8.RuneSelf
	}
	digit := func(c byte) bool { return c >= '0' && c <= '9' }
	switch c := s[0]; {
	case c == ' ' || c == '\n' || c == '\t':
		return space, 1
	case strings.HasPrefix(s, "-- ") || c == '#':
		return until(space, "\n")
	case strings.HasPrefix(s, "/*") && !strings.HasPrefix(s, "/*!"):
		return until(space, "*/")
	case strings.HasPrefix(s, "$$"):
		return until(str, "$$")
	case c == '\'':
		return until(str, "'")
	case c == '"' || c == '`':
		return until(name, s[:1])
	case letter(c):
		return word, while(func(c byte) bool { return letter(c) || digit(c) || c == '$' })
	case digit(c):
		return number, while(digit)
	case c == '?':
		return argument, 1
	case c == '$' && len(s) > 1 && digit(s[1]):
		return argument, while(digit)
	}
	return sign, 1
}

func join(pieces []piece) string {
	var b strings.Builder
	for _, p := range pieces {
		b.WriteString(p.text)
	}
	return b.String()
}

// mutator makes texts of others.
type mutator struct {
	random *rand.Rand
	seeds  [][]piece
	pool   map[pieceKind][]string // what occurs in the seeds, and what is put in beside
	quote  string
	before []string // what can stand before a statement
}

func newMutator(seeds []string, extra map[pieceKind][]string, quote string, before []string) *mutator {
	m := &mutator{pool: map[pieceKind][]string{}, quote: quote, before: before}
	for kind, texts := range extra {
		m.pool[kind] = append(m.pool[kind], texts...)
	}
	for _, s := range seeds {
		pieces := split(s)
		m.seeds = append(m.seeds, pieces)
		for _, p := range pieces {
			if !slices.Contains(m.pool[p.kind], p.text) {
				m.pool[p.kind] = append(m.pool[p.kind], p.text)
			}
		}
	}
	return m
}

func pick[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }

// next returns a text: a seed with a few changes.
func (m *mutator) next() string {
	pieces := slices.Clone(pick(m.random, m.seeds))
	for range 1 + m.random.IntN(4) {
		if len(pieces) == 0 {
			break
		}
		pieces = m.change(pieces)
	}
	return join(pieces)
}

// some returns the place of a piece that is no space; -1 if it finds none.
func (m *mutator) some(pieces []piece, kinds ...pieceKind) int {
	for range 20 {
		i := m.random.IntN(len(pieces))
		if k := pieces[i].kind; len(kinds) == 0 && k != space || slices.Contains(kinds, k) {
			return i
		}
	}
	return -1
}

// group returns a part of a text that parentheses enclose, them included.
func (m *mutator) group(pieces []piece) (from, to int, ok bool) {
	var opens []int
	var found [][2]int
	for i, p := range pieces {
		switch {
		case p.text == "(":
			opens = append(opens, i)
		case p.text == ")" && len(opens) > 0:
			found = append(found, [2]int{opens[len(opens)-1], i + 1})
			opens = opens[:len(opens)-1]
		}
	}
	if len(found) == 0 {
		return 0, 0, false
	}
	g := pick(m.random, found)
	return g[0], g[1], true
}

// change makes one change.
func (m *mutator) change(pieces []piece) []piece {
	r := m.random
	i := m.some(pieces)
	if i < 0 {
		return pieces
	}
	put := func(at int, texts ...string) []piece {
		var list []piece
		for _, t := range texts {
			list = append(list, piece{sign, t})
		}
		return slices.Insert(pieces, at, list...)
	}
	switch r.IntN(19) {
	case 0: // two change places
		if j := m.some(pieces); j >= 0 {
			pieces[i], pieces[j] = pieces[j], pieces[i]
		}
	case 1: // two of a kind change places
		if j := m.some(pieces, pieces[i].kind); j >= 0 {
			pieces[i], pieces[j] = pieces[j], pieces[i]
		}
	case 2:
		return slices.Delete(pieces, i, i+1)
	case 3:
		return slices.Insert(pieces, i, pieces[i], piece{space, " "})
	case 4: // anything is put in
		kind := pieceKind(r.IntN(int(sign) + 1))
		if len(m.pool[kind]) > 0 {
			return slices.Insert(pieces, i, piece{kind, pick(r, m.pool[kind])}, piece{space, " "})
		}
	case 5, 6, 7: // one becomes another of its kind
		if p := &pieces[i]; p.kind != sign || r.IntN(4) == 0 {
			p.text = pick(r, m.pool[p.kind])
		}
	case 8: // a name becomes another, in whatever form
		if j := m.some(pieces, word, name); j >= 0 {
			kind := pick(r, []pieceKind{word, name})
			pieces[j] = piece{kind, pick(r, m.pool[kind])}
		}
	case 9: // a value becomes another
		if j := m.some(pieces, number, str, argument); j >= 0 {
			kind := pick(r, []pieceKind{number, str, argument})
			if len(m.pool[kind]) > 0 {
				pieces[j] = piece{kind, pick(r, m.pool[kind])}
			}
		}
	case 10: // upper and lower case
		if j := m.some(pieces, word); j >= 0 {
			if t := pieces[j].text; t == strings.ToLower(t) {
				pieces[j].text = strings.ToUpper(t)
			} else {
				pieces[j].text = strings.ToLower(t)
			}
		}
	case 11: // quotes
		if j := m.some(pieces, word); j >= 0 {
			pieces[j] = piece{name, m.quote + pieces[j].text + m.quote}
		}
	case 12: // spaces
		if j := m.some(pieces, space); j >= 0 {
			pieces[j].text = pick(r, m.pool[space])
		} else {
			return slices.Insert(pieces, i, piece{space, pick(r, m.pool[space])})
		}
	case 13: // the begin of one and the end of another
		other := pick(r, m.seeds)
		return slices.Concat(pieces[:i], other[r.IntN(len(other)):])
	case 14: // a group becomes another
		other := pick(r, m.seeds)
		from, to, ok := m.group(pieces)
		if f, t, has := m.group(other); ok && has {
			return slices.Concat(pieces[:from], other[f:t], pieces[to:])
		}
	case 15: // a group becomes a statement, or a statement is put in as one
		other := slices.Concat([]piece{{sign, "("}}, pick(r, m.seeds), []piece{{sign, ")"}})
		if from, to, ok := m.group(pieces); ok {
			return slices.Concat(pieces[:from], other, pieces[to:])
		}
	case 16: // parentheses
		j := m.some(pieces)
		if j >= 0 {
			i, j = min(i, j), max(i, j)
			pieces = put(j+1, ")")
			return slices.Insert(pieces, i, piece{sign, "("})
		}
	case 17:
		return slices.Concat([]piece{{word, pick(r, m.before)}, {space, " "}}, pieces)
	case 18:
		return slices.Concat(pieces, []piece{{sign, pick(r, []string{";", " ; ", ";--x\n", ";;"})}}, pick(r, m.seeds))
	}
	return pieces
}

// seeds reads the statements of a file, one a line, in which ¶ is a new line, and those of the corpus.
func seeds(t testing.TB, file, dialect string) []string {
	t.Helper()
	f, err := os.Open("../testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var list []string
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		list = append(list, strings.ReplaceAll(lines.Text(), "¶", "\n"))
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile("../testdata/corpus.json")
	if err != nil {
		t.Fatal(err)
	}
	var samples []struct {
		Dialects []string
		SQL      string
	}
	if err := json.Unmarshal(data, &samples); err != nil {
		t.Fatal(err)
	}
	for _, s := range samples {
		if slices.Contains(s.Dialects, dialect) {
			list = append(list, s.SQL)
		}
	}
	return list
}

// inputs returns how many texts to try, and where the random numbers begin.
func inputs(t testing.TB, usual int) (n int, seed uint64) {
	t.Helper()
	n, seed = usual, 1
	if s := os.Getenv("ALKEY_ORACLE"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil {
			t.Fatalf("ALKEY_ORACLE: %v", err)
		}
	}
	if s := os.Getenv("ALKEY_ORACLE_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("ALKEY_ORACLE_SEED: %v", err)
		}
	}
	return n, seed
}
