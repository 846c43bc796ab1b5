package sqltext

// Words returns the words and names of a text in order, whatever stands between them: words in lower
// case, quoted names as they mean. Strings, numbers, placeholders and signs are left out.
func Words(d Dialect, text string) []string {
	var words []string
	for _, t := range lex(d, mode{versionCode: true}, text).tokens {
		switch t.kind {
		case word:
			words = append(words, t.text)
		case quoted:
			words = append(words, t.name)
		}
	}
	return words
}

// Arguments counts how often a text has each placeholder, by ordinal.
func Arguments(d Dialect, text string) map[int]int {
	times := make(map[int]int)
	for _, t := range lex(d, mode{versionCode: true}, text).tokens {
		if t.kind == placeholder {
			times[t.number]++
		}
	}
	return times
}
