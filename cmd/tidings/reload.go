package main

import (
	"context"
	"crypto/sha256"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rs/zerolog"
)

// lookEvery is how soon a changed file is noticed. Its contents are compared: where files are swapped by a link, as Kubernetes does
// with secrets, times say little.
const lookEvery = 2 * time.Second

// reloading are files that are read again, without a restart, when what is in them changes or SIGHUP comes. What cannot be used leaves
// everything as it is.
type reloading struct {
	what  string // for the log
	files []string
	load  func() error
	log   zerolog.Logger

	failed *atomic.Uint64 // the reloader's

	good, bad, told [sha256.Size]byte // contents: those in use, others that failed, and those of which the log tells
}

// reloader looks at files until it is stopped.
type reloader struct {
	hangUps chan os.Signal
	all     []*reloading
	failed  atomic.Uint64 // times that files could not be used
	asked   []func()      // called on SIGHUP, beside
	daily   []func()      // called once a day

	end   context.CancelFunc // of run, where it was started
	ended chan struct{}      // closed when it has
}

// newReloader hears SIGHUP from now on, which would end the process otherwise. On Windows there is none. With --dev it shall: that is
// what a terminal sends that is closed.
func newReloader(dev bool) *reloader {
	r := &reloader{hangUps: make(chan os.Signal, 1)}
	if !dev {
		signal.Notify(r.hangUps, syscall.SIGHUP)
	}
	return r
}

// start has files looked at until stop. No more are added after that.
func (r *reloader) start() {
	var ctx context.Context
	ctx, r.end = context.WithCancel(context.Background())
	r.ended = make(chan struct{})
	go func() {
		defer close(r.ended)
		r.run(ctx)
	}()
}

func (r *reloader) stop() {
	signal.Stop(r.hangUps)
	if r.end != nil {
		r.end()
		<-r.ended
	}
}

// add reads files for the first time. That they cannot be used is an error then.
func (r *reloader) add(f *reloading) error {
	f.good = f.contents()
	if err := f.load(); err != nil {
		return err
	}
	f.failed = &r.failed
	r.all = append(r.all, f)
	return nil
}

// run looks at the files until ctx is done.
func (r *reloader) run(ctx context.Context) {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	day := time.NewTicker(24 * time.Hour)
	defer day.Stop()
	for {
		asked := false
		select {
		case <-ctx.Done():
			return
		case <-day.C:
			for _, do := range r.daily {
				do()
			}
			continue
		case <-r.hangUps:
			asked = true
			for _, do := range r.asked {
				do()
			}
		case <-look.C:
		}
		for _, f := range r.all {
			f.look(asked)
		}
	}
}

// look reads the files again if they have changed. Of some that cannot be used it tells when it finds them so twice, or is asked to
// look: at first only half of them may be there.
func (f *reloading) look(asked bool) {
	now := f.contents()
	switch {
	case now == f.good && !asked:
		f.bad, f.told = now, now
		return
	case now == f.told && !asked:
		return
	}
	err := f.load()
	switch {
	case err == nil:
		f.good, f.told = now, now
		f.log.Info().Strs("files", f.files).Msg(f.what + ": read again")
	case now == f.bad || asked:
		f.told = now
		f.failed.Add(1)
		f.log.Error().Err(err).Msg(f.what + " cannot be used, what was read before stays good")
	}
	f.bad = now
}

// contents is a hash of what is in the files. One that cannot be read has nothing in it.
func (f *reloading) contents() (sum [sha256.Size]byte) {
	h := sha256.New()
	for _, name := range f.files {
		text, err := os.ReadFile(name)
		of := sha256.Sum256(text)
		if err == nil {
			h.Write(of[:])
		}
		h.Write([]byte{0})
	}
	h.Sum(sum[:0])
	return sum
}
