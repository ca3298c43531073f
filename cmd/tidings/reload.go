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

// checkEvery is the time between two checks for changed files. Contents are compared, since modification times say little when files are
// replaced through a link, as Kubernetes does with secrets.
const checkEvery = 2 * time.Second

// reloading is a set of files that is reloaded without a restart when its contents change or SIGHUP arrives. If the new contents are not
// usable, the old ones stay in use.
type reloading struct {
	what  string // for the log
	files []string
	load  func() error
	log   zerolog.Logger

	failed *atomic.Uint64 // the reloader's

	good, bad, logged [sha256.Size]byte // hashes of contents: in use, of the last failure, and of the last log line
}

// reloader watches files for changes. Functions and files are added before start.
type reloader struct {
	hangUps  chan os.Signal
	all      []*reloading
	failed   atomic.Uint64 // number of failed reloads
	onHangUp []func()      // called on SIGHUP, before files are reloaded
	daily    []func()      // called once a day

	end   context.CancelFunc // ends run; nil before start
	ended chan struct{}      // closed when run has returned
}

// newReloader returns a reloader that handles SIGHUP from now on, until stop. With --dev it leaves SIGHUP alone, so that closing the terminal
// ends the process. On Windows there is no such signal.
func newReloader(dev bool) *reloader {
	r := &reloader{hangUps: make(chan os.Signal, 1)}
	if !dev {
		signal.Notify(r.hangUps, syscall.SIGHUP)
	}
	return r
}

// start watches the files until stop. No files may be added after start.
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

// add loads the files for the first time, and returns an error if they are not usable.
func (r *reloader) add(f *reloading) error {
	f.good = f.contents()
	if err := f.load(); err != nil {
		return err
	}
	f.failed = &r.failed
	r.all = append(r.all, f)
	return nil
}

// run checks the files until ctx is done.
func (r *reloader) run(ctx context.Context) {
	check := time.NewTicker(checkEvery)
	defer check.Stop()
	day := time.NewTicker(24 * time.Hour)
	defer day.Stop()
	for {
		hangUp := false
		select {
		case <-ctx.Done():
			return
		case <-day.C:
			for _, do := range r.daily {
				do()
			}
			continue
		case <-r.hangUps:
			hangUp = true
			for _, do := range r.onHangUp {
				do()
			}
		case <-check.C:
		}
		for _, f := range r.all {
			f.check(hangUp)
		}
	}
}

// check reloads the files if their contents have changed, or if force is set. It logs a failure only when two checks in a row find the same
// contents, or with force: at the first check only some of the files may have been written.
func (f *reloading) check(force bool) {
	now := f.contents()
	switch {
	case now == f.good && !force:
		f.bad, f.logged = now, now
		return
	case now == f.logged && !force:
		return
	}
	err := f.load()
	switch {
	case err == nil:
		f.good, f.logged = now, now
		f.log.Info().Strs("files", f.files).Msg(f.what + " reloaded")
	case now == f.bad || force:
		f.logged = now
		f.failed.Add(1)
		f.log.Error().Err(err).Msg(f.what + " not reloaded; the previous contents stay in use")
	}
	f.bad = now
}

// contents returns a hash of the contents of all files. A file that cannot be read counts as missing.
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
