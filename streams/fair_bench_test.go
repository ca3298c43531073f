package streams_test

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// BenchmarkManyTopics reads what users missed who read 1,000 topics each: how long one of them takes, and how long a user without topics
// takes beside 16 of them.
func BenchmarkManyTopics(b *testing.B) {
	for name, active := range map[string]int{"of which 10 are active": 10, "all active": 1000} {
		b.Run(name, func(b *testing.B) {
			g := publishTopics(b, 20_000, active)
			mark := g.mark()
			read := func(user string, topics int) error {
				r, err := g.tail.Reader(mark, 0, subscribed(b, user, topics))
				if err != nil {
					return err
				}
				defer r.Close()
				for r.Position() < mark.Last {
					if _, err := r.Read(b.Context(), nil, 64); err != nil {
						return err
					}
				}
				return nil
			}
			var alone, beside, heavy time.Duration
			for b.Loop() {
				began := time.Now()
				if err := read("7", 1000); err != nil {
					b.Fatal(err)
				}
				alone += time.Since(began)
				var all errgroup.Group
				began = time.Now()
				for i := range 16 {
					all.Go(func() error { return read(fmt.Sprint("heavy", i), 1000) })
				}
				time.Sleep(50 * time.Millisecond)
				light := time.Now()
				if err := read("11", 0); err != nil {
					b.Fatal(err)
				}
				beside += time.Since(light)
				if err := all.Wait(); err != nil {
					b.Fatal(err)
				}
				heavy += time.Since(began)
			}
			n := float64(b.N) * float64(time.Millisecond)
			b.ReportMetric(float64(alone)/n, "ms/alone")
			b.ReportMetric(float64(heavy)/n, "ms/sixteen")
			b.ReportMetric(float64(beside)/n, "ms/beside")
		})
	}
}
