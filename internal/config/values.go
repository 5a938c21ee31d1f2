package config

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/outbox-relay/relay"
)

// sizeOf is a number of bytes: it is written with a unit.
type sizeOf int

var units = []struct {
	name  string
	bytes int
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

// anyDuration is a duration with two more values: 0, and forever.
type anyDuration time.Duration

const forever = "forever"

// write returns the value behind a field as a person would write it.
func write(field any) string {
	switch v := field.(type) {
	case *string:
		return *v
	case *[]string:
		return strings.Join(*v, ",")
	case *bool:
		return strconv.FormatBool(*v)
	case *int:
		return strconv.Itoa(*v)
	case *int32:
		return strconv.Itoa(int(*v))
	case *int16:
		return strconv.Itoa(int(*v))
	case *sizeOf:
		return writeSize(int(*v))
	case *time.Duration:
		return writeDuration(*v)
	case *laneList:
		return v.text()
	case *anyDuration:
		return writeAnyDuration(time.Duration(*v))
	}
	panic(fmt.Sprintf("config: no way to write a %T", field))
}

func writeSize(n int) string {
	for _, u := range units[:3] {
		if n >= u.bytes && n%u.bytes == 0 {
			return strconv.Itoa(n/u.bytes) + u.name
		}
	}
	return strconv.Itoa(n)
}

// writeDuration leaves out the zero units that time.Duration writes: 1m and not 1m0s.
func writeDuration(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

func writeAnyDuration(d time.Duration) string {
	switch d {
	case relay.KeepForever:
		return forever
	case relay.RemoveAtOnce:
		return "0"
	}
	return writeDuration(d)
}

// set parses text into the field of s. The error does not name the setting and does not hold the
// value of a secret.
func (s Setting) set(c *Config, text string) error {
	field := s.field(c)
	if err := s.setField(field, text); err != nil {
		return err
	}
	// A relay.Config would take a zero value for "not set".
	if reflect.ValueOf(field).Elem().IsZero() && !slices.Contains([]string{"", "0", "false"}, s.Default) {
		return fmt.Errorf("%q is not allowed", text)
	}
	return nil
}

// setField parses text into a field of the setting's kind.
func (s Setting) setField(to any, text string) error {
	if s.Choices != nil && !slices.Contains(s.Choices, text) {
		return fmt.Errorf("%q is not one of %s", text, strings.Join(s.Choices, ", "))
	}
	switch field := to.(type) {
	case *string:
		*field = text
	case *[]string:
		*field = splitList(text)
	case *bool:
		return setBool(field, text)
	case *int:
		return setNumber(field, text, math.MaxInt32)
	case *int32:
		return setNumber(field, text, math.MaxInt32)
	case *int16:
		return setNumber(field, text, math.MaxInt16)
	case *sizeOf:
		return setSize(field, text)
	case *time.Duration:
		return setDuration(field, text)
	case *laneList:
		return setLanes(field, text)
	case *anyDuration:
		return setAnyDuration(field, text)
	default:
		panic(fmt.Sprintf("config: no way to parse a %T", field))
	}
	return nil
}

// splitList keeps empty parts: a doubled comma is a fault, and validation names it.
func splitList(text string) []string {
	if text == "" {
		return nil
	}
	parts := strings.Split(text, ",")
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	return parts
}

func setBool(field *bool, text string) error {
	switch strings.ToLower(text) {
	case "true", "1", "yes", "on":
		*field = true
	case "false", "0", "no", "off":
		*field = false
	default:
		return fmt.Errorf("%q is neither true nor false", text)
	}
	return nil
}

func setNumber[T int | int16 | int32](field *T, text string, most int64) error {
	n, err := strconv.ParseInt(text, 10, 64)
	switch {
	case errors.Is(err, strconv.ErrRange):
		return fmt.Errorf("%s is out of range", text)
	case err != nil:
		return fmt.Errorf("%q is not a whole number", text)
	case n < 0:
		return fmt.Errorf("%d is negative", n)
	case n > most:
		return fmt.Errorf("%d is greater than %d", n, most)
	}
	*field = T(n)
	return nil
}

func setSize(field *sizeOf, text string) error {
	digits, unit := text, 1
	for _, u := range units {
		if rest, ok := strings.CutSuffix(text, u.name); ok {
			digits, unit = strings.TrimSpace(rest), u.bytes
			break
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	switch {
	case err != nil:
		return fmt.Errorf("%q is not a size; write bytes, or a number and KiB, MiB or GiB, such as 8MiB", text)
	case n < 0:
		return fmt.Errorf("%s is negative", text)
	case n > math.MaxInt32/int64(unit):
		return fmt.Errorf("%s is 2GiB or more", text)
	}
	*field = sizeOf(n) * sizeOf(unit)
	return nil
}

// setDuration refuses zero: the engine would take it for "not set", and no setting has a use for
// it.
func setDuration(field *time.Duration, text string) error {
	d, err := time.ParseDuration(text)
	switch {
	case err != nil:
		return fmt.Errorf("%q is not a duration; write a number and a unit, such as 500ms, 2s or 1m30s", text)
	case d < 0:
		return fmt.Errorf("%s is negative", text)
	case d == 0:
		return errors.New("0 is not allowed; it must be longer")
	}
	*field = d
	return nil
}

func setAnyDuration(field *anyDuration, text string) error {
	if text == forever {
		*field = anyDuration(relay.KeepForever)
		return nil
	}
	d, err := time.ParseDuration(text)
	switch {
	case err != nil:
		return fmt.Errorf("%q is not a duration; write a number and a unit, such as 24h, or 0, or %s", text, forever)
	case d < 0:
		return fmt.Errorf("%s is negative", text)
	case d == 0:
		d = relay.RemoveAtOnce // the engine takes zero for "not set"
	}
	*field = anyDuration(d)
	return nil
}
