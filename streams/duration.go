package streams

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"time"
)

var longUnits = regexp.MustCompile(`[\d.]+[dw]`)

// ParseDuration reads a duration as time.ParseDuration does, and also takes d for days of 24 hours and w for weeks of 7 days: "30d", "1d12h",
// "2w". Its error says what is accepted.
func ParseDuration(text string) (time.Duration, error) {
	tooLong := false
	inHours := longUnits.ReplaceAllStringFunc(text, func(part string) string {
		hours := time.Duration(24)
		if part[len(part)-1] == 'w' {
			hours *= 7
		}
		n, err := time.ParseDuration(part[:len(part)-1] + "h")
		if err != nil {
			return part // and is refused below
		}
		tooLong = tooLong || n > math.MaxInt64/hours
		return (n * hours).String()
	})
	switch d, err := time.ParseDuration(inHours); {
	case tooLong:
		return 0, fmt.Errorf("%.40q is too long: at most %dd", text, math.MaxInt64/(24*time.Hour))
	case err != nil:
		return 0, errors.New("use a number with a unit, such as 30s, 15m, 24h or 30d")
	default:
		return d, nil
	}
}
