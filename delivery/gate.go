package delivery

import (
	"crypto/sha256"
	"math"
	"net/netip"
	"sync"
	"sync/atomic"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/rs/zerolog"
	"golang.org/x/time/rate"
)

// gate counts who is in, and how often who comes.
type gate struct {
	// Static after construction.
	limits       Limits
	connects     *buckets[netip.Addr]
	failures     *buckets[netip.Addr]
	renewals     *renewals
	publications *buckets[[sha256.Size]byte]
	refused      map[string]*refusals // by kind

	mu sync.Mutex
	in count
	of map[netip.Addr]count // of addresses from which somebody is in
}

// count is of connections, and of those for whom no token has been admitted yet: some of the connections, and questions beside them.
type count struct{ all, unknown int }

// refusals are those of a kind.
type refusals struct {
	n   atomic.Int64
	log zerolog.Logger // a line a minute
}

func newGate(limits Limits, log zerolog.Logger) *gate {
	g := &gate{
		limits: limits, connects: newBuckets[netip.Addr](limits.ConnectRate), failures: newBuckets[netip.Addr](limits.FailedAuthRate),
		renewals:     newRenewals(limits.FailedAuthRate),
		publications: newBuckets[[sha256.Size]byte](limits.PublishRate), refused: map[string]*refusals{}, of: map[netip.Addr]count{},
	}
	for kind := range limitReasons {
		g.refused[kind] = &refusals{log: seldom(log)}
	}
	return g
}

// What enters: a connection, whose token is not known yet, or a request with a token, which is none.
var (
	connection = count{all: 1, unknown: 1}
	question   = count{unknown: 1}
)

// enter counts one, or says which kind of limit forbids it. An address that is none, as of a Unix socket, has no limits.
func (g *gate) enter(a netip.Addr, one count) (kind string) {
	over := func(n, most int) bool { return most > 0 && n >= most }
	g.mu.Lock()
	defer g.mu.Unlock()
	of := g.of[a]
	switch {
	case a.IsValid() && one.all > 0 && over(of.all, g.limits.ConnectionsPerAddress):
		return limitConnectionsPerAddress
	case a.IsValid() && over(of.unknown, g.limits.UnauthenticatedPerAddress):
		return limitUnauthenticatedPerAddress
	case one.all > 0 && over(g.in.all, g.limits.Connections):
		return limitConnections
	case over(g.in.unknown, g.limits.Unauthenticated):
		return limitUnauthenticated
	}
	g.add(a, one.all, one.unknown)
	return ""
}

// admit counts a connection among those whose token has been admitted, and ends a question.
func (g *gate) admit(a netip.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.add(a, 0, -1)
}

// leave counts one less, which was admitted or not.
func (g *gate) leave(a netip.Addr, admitted bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if admitted {
		g.add(a, -1, 0)
	} else {
		g.add(a, -1, -1)
	}
}

func (g *gate) add(a netip.Addr, all, unknown int) {
	g.in.all += all
	g.in.unknown += unknown
	of := g.of[a]
	of.all += all
	of.unknown += unknown
	if of == (count{}) {
		delete(g.of, a)
	} else {
		g.of[a] = of
	}
}

// buckets hold a token bucket for each K, for the 65,536 that came last. Who is forgotten begins with a full one: who has more addresses than
// that to come from gains a burst with each round of them, and is bounded by the limits in all. No buckets, nil, hold everybody for good.
type buckets[K comparable] struct {
	rate  rate.Limit
	burst int
	by    *lru.Cache[K, *rate.Limiter]
}

const bucketsMost = 1 << 16

// newBuckets has ten seconds of the rate, and one at least, come at once.
func newBuckets[K comparable](rateOf float64) *buckets[K] {
	if rateOf <= 0 {
		return nil
	}
	by, _ := lru.New[K, *rate.Limiter](bucketsMost) // fails for a size that is not positive
	return &buckets[K]{rate: rate.Limit(rateOf), burst: int(math.Ceil(min(10*rateOf, math.MaxInt32))), by: by}
}

// take takes a token out of a bucket, and says whether there was one.
func (b *buckets[K]) take(k K) bool {
	var nobody K
	if b == nil || k == nobody {
		return true
	}
	bucket, known := b.by.Get(k)
	if !known {
		bucket = rate.NewLimiter(b.rate, b.burst)
		if other, meanwhile, _ := b.by.PeekOrAdd(k, bucket); meanwhile {
			bucket = other
		}
	}
	return bucket.Allow()
}

// empty says whether there is no token in a bucket.
func (b *buckets[K]) empty(k K) bool {
	if b == nil {
		return false
	}
	bucket, known := b.by.Get(k)
	return known && bucket.Tokens() < 1
}
