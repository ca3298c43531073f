package client

import (
	"testing"
	"time"
)

func TestBackoff(t *testing.T) {
	b := backoff{min: 500 * time.Millisecond, max: 30 * time.Second, rand: func() float64 { return 1 }}
	for _, want := range []time.Duration{500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000} {
		if got := b.next(); got != want*time.Millisecond {
			t.Errorf("next = %v, want %d ms", got, want)
		}
	}
	b.tries = 1 << 30
	if got := b.next(); got != 30*time.Second {
		t.Errorf("next = %v after many tries", got)
	}
	if got := b.first(); got != 500*time.Millisecond {
		t.Errorf("first = %v", got)
	}
	b.rand = func() float64 { return 0.25 }
	if got := b.next(); got != 7500*time.Millisecond {
		t.Errorf("next = %v, want a quarter of the bound", got)
	}
	b.reset()
	if got := b.next(); got != 125*time.Millisecond {
		t.Errorf("next = %v after a reset, want a quarter of the first bound", got)
	}
	b = backoff{min: time.Minute, max: time.Second, rand: func() float64 { return 1 }}
	if got := b.next(); got != time.Second {
		t.Errorf("next = %v, want the bound", got)
	}
}

func TestRetryAfter(t *testing.T) {
	for value, want := range map[string]time.Duration{
		"": 0, "soon": 0, "0": 0, "-5": 0, "7": 7 * time.Second,
		"99999999999": maxWait, "Thu, 01 Jan 1970 00:00:00 GMT": 0, "Fri, 31 Dec 9999 23:59:59 GMT": maxWait,
	} {
		if got := retryAfter(value); got != want {
			t.Errorf("retryAfter(%q) = %v, want %v", value, got, want)
		}
	}
	if got := bounded(1<<62, time.Millisecond); got != maxWait {
		t.Errorf("bounded = %v", got)
	}
}
