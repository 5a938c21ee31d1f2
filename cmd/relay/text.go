package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
)

// writeTable prints aligned columns. The header and the rows are cells separated by tabs; rows
// calls row for each.
func writeTable(to io.Writer, header string, rows func(row func(cells ...any))) error {
	table := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, header)
	rows(func(cells ...any) {
		texts := make([]string, len(cells))
		for i, cell := range cells {
			texts[i] = fmt.Sprint(cell)
		}
		fmt.Fprintln(table, strings.Join(texts, "\t"))
	})
	if err := table.Flush(); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}

func writeLine(to io.Writer, format string, args ...any) error {
	if _, err := fmt.Fprintf(to, format+"\n", args...); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}

// name is how an aggregate or another text from the database is shown: on one line, and harmless to
// a terminal.
func name(parts ...string) string {
	text := strings.Join(parts, "/")
	if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) || r == '�' }) {
		return fmt.Sprintf("%q", text)
	}
	return text
}

// sentence is an error text on one line, with at most so many characters; 0 is no limit. What is
// too much is left out near the beginning: an error begins with what all of its kind have in
// common.
func sentence(text *string, most int) string {
	if text == nil {
		return "-"
	}
	words := strings.FieldsFunc(*text, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) })
	runes := []rune(strings.Join(words, " "))
	if most > 0 && len(runes) > most {
		head := most / 4
		return string(runes[:head]) + "…" + string(runes[len(runes)-(most-head-1):])
	}
	return string(runes)
}

func orDash[T any](format string, value *T) string {
	if value == nil {
		return "-"
	}
	return fmt.Sprintf(format, *value)
}

// age is a number of seconds as a person says it.
func age(seconds float64) string {
	d := time.Duration(max(0, seconds) * float64(time.Second))
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd%dh", int(d.Hours())/24, int(d.Hours())%24)
}

// counted is a number with its noun.
func counted[N int | int64](n N, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// second is a time to the second, in UTC.
func second(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

// secondOrDash is for a time that may not be known.
func secondOrDash(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return second(*t)
}
