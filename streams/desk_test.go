package streams

import (
	"context"
	"fmt"
	"testing"
)

// A reader that goes when it has been given its turn, and before anything is read, is no quick read.
func TestNoReadIsToldOfWhoWithdrew(t *testing.T) {
	t.Parallel()
	told := 0
	tail := &Tail{desk: newDesk(), onColdRead: func(ColdRead) { told++ }}
	w := &turn{subjects: []string{"notify.user.alice"}, wanted: []bool{true}, given: make(chan struct{})}
	w.withdrawn.Store(true)
	tail.desk.queue(w)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tail.coldReads(ctx)
	}()
	<-w.given
	cancel()
	<-done
	if told != 0 {
		t.Error("a read was told of")
	}
}

func TestCheapestSweep(t *testing.T) {
	near := func(n int, from uint64) (turns []*turn) {
		for i := range n {
			turns = append(turns, &turn{from: from + uint64(i)})
		}
		return turns
	}
	for _, c := range []struct {
		name  string
		turns []*turn
		end   uint64
		want  int // how many read alone
	}{
		{"a crowd", near(1000, 5000), 10_000, 0},
		{"too few", near(40, 5000), 10_000, 40},
		{"an outlier", append(near(1, 0), near(1000, 900_000)...), 1_000_000, 1},
		{"many outliers are a crowd", append(near(500, 0), near(500, 900_000)...), 1_000_000, 0},
		{"at the end already", near(1000, 20_000), 10_000, 1000},
		{"nobody", nil, 10, 0},
	} {
		t.Run(fmt.Sprint(c.name), func(t *testing.T) {
			if got := cheapest(c.turns, c.end); got != c.want {
				t.Errorf("%d of %d read alone, want %d", got, len(c.turns), c.want)
			}
		})
	}
}

// Users are served in turn, each by a bounded number of workers, however many readers they have and whatever a turn is cut into.
func TestUsersAreServedInTurn(t *testing.T) {
	t.Parallel()
	d := newDesk()
	for _, user := range []string{"a", "a", "a", "a", "b", "c", "c"} {
		d.queue(&turn{user: user, given: make(chan struct{})})
	}
	var busy []*turn
	take := func(want string) {
		t.Helper()
		got := ""
		if w := d.first(); w != nil {
			got, busy = w.user, append(busy, w)
		}
		if got != want {
			t.Errorf("%q is served, want %q", got, want)
		}
	}
	serve := func(i int, over bool) {
		d.served(busy[i], over)
		busy = append(busy[:i], busy[i+1:]...)
	}
	for _, want := range []string{"a", "b", "c", "a", "c", ""} { // a has two workers, and must wait
		take(want)
	}
	serve(1, false) // b goes on behind the others
	take("b")
	serve(0, false) // the first of a likewise
	take("a")
	take("")
	for len(busy) > 0 {
		serve(0, true)
	}
	take("a")
	take("a")
	take("")
	if d.count != 0 || len(d.waiting) != 0 || len(d.users) != 0 {
		t.Errorf("%d wait: %v, %v", d.count, d.waiting, d.users)
	}
	withdrawn := &turn{user: "d", given: make(chan struct{})}
	d.queue(withdrawn)
	d.withdraw(withdrawn)
	take("")
}
