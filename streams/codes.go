package streams

import (
	"errors"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// Codes of the JetStream API that nats.go does not name, and in comments what nats-server calls them.
const (
	codeNoPeers         jetstream.ErrorCode = 10005 // JSClusterNoPeersErrF: not enough nodes for the replicas, until others have started
	codeNoCluster       jetstream.ErrorCode = 10008 // JSClusterNotAvailErr: no leader
	codeAccountFull     jetstream.ErrorCode = 10002 // JSAccountResourcesExceededErr
	codeConsumerFailed  jetstream.ErrorCode = 10012 // JSConsumerCreateErrF
	codeServerFull      jetstream.ErrorCode = 10023 // JSInsufficientResourcesErr
	codeNoConsumers     jetstream.ErrorCode = 10026 // JSMaximumConsumersLimitErr
	codeNoStorage       jetstream.ErrorCode = 10047 // JSStorageResourcesExceededErr
	codeNoStore         jetstream.ErrorCode = 10049 // JSStreamStoreFailedF
	codeTooLarge        jetstream.ErrorCode = 10054 // JSStreamMessageExceedsMaximumErr
	codeOtherStream     jetstream.ErrorCode = 10060 // JSStreamNotMatchErr
	codeOverlap         jetstream.ErrorCode = 10065 // JSStreamSubjectOverlapErr
	codeNotClustered    jetstream.ErrorCode = 10074 // JSStreamReplicasNotSupportedErr
	codeStoreFailed     jetstream.ErrorCode = 10077 // JSStreamStoreFailedF
	codeSealed          jetstream.ErrorCode = 10109 // JSStreamSealedErr
	codeBytesRequired   jetstream.ErrorCode = 10113 // JSStreamMaxBytesRequired
	codeStreamOffline   jetstream.ErrorCode = 10118 // JSStreamOfflineErr: none of the nodes that have the stream runs
	codeTooManyBytes    jetstream.ErrorCode = 10122 // JSStreamMaxStreamBytesExceeded
	codeConsumerOffline jetstream.ErrorCode = 10119 // JSConsumerOfflineErr, likewise
	codeInProcess       jetstream.ErrorCode = 10158 // JSStreamDuplicateMessageConflict: the try before may yet be stored
)

// has says whether the API answered with one of the codes.
func has(err error, codes ...jetstream.ErrorCode) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && slices.Contains(codes, api.ErrorCode)
}

// NotReady says whether JetStream answered that its cluster has no leader, or not enough nodes: it may have when more have started.
func NotReady(err error) bool { return has(err, codeNoPeers, codeNoCluster, codeStreamOffline) }

// Offline says whether JetStream answered that it cannot serve the stream or a consumer now.
func Offline(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && api.Code == 503 || has(err, codeStreamOffline, codeConsumerOffline)
}

// Passing reports whether err is of a state that passes by itself: JetStream cannot serve the stream now, it was just deleted and a gateway
// makes it again, or what it answered could not be proven, as while servers and leaders change.
func Passing(err error) bool {
	for _, passing := range []error{
		errNotProven, errDisputed, errHole, errNoDirect, errNotWarm, errNotSeen, errAnew, errNoCursor, jetstream.ErrStreamNotFound,
	} {
		if errors.Is(err, passing) {
			return true
		}
	}
	return Offline(err)
}

// Refusal says in a few words what JetStream refuses until somebody changes its settings or makes room, so that to try again at once is
// in vain. It is empty for any other error.
func Refusal(err error) string {
	what, _ := refusal(err)
	return what
}

// refusal is Refusal, and what to do.
func refusal(err error) (what, todo string) {
	var api *jetstream.APIError
	if !errors.As(err, &api) {
		return "", ""
	}
	switch api.ErrorCode {
	case codeSealed:
		return "the stream is sealed", "use another --stream"
	case codeNoConsumers:
		return "NATS allows no more users: its limit of consumers is reached",
			"raise max_consumers of the NATS account and of the stream; tidings doctor says which holds"
	case codeOverlap:
		return "another stream has its subjects", "name that with --stream, or take the subjects from it"
	case codeAccountFull, codeServerFull, codeNoStorage:
		return "NATS has no room for more", "make room on its disk, or raise max_store of the server or max_disk of the account; for the embedded server raise --max-store"
	case codeConsumerFailed:
		if strings.HasPrefix(api.Description, "error creating store") { // the file system refused it
			return "NATS cannot store the position of a new user", "make room on its disk; the log of the server says more"
		}
	case codeStoreFailed:
		if strings.HasPrefix(api.Description, "maximum ") { // maximum messages exceeded, and the like
			return "the stream is full and refuses what is new", "a gateway that runs sets it to drop what is old; or raise its limits with nats stream edit"
		}
	}
	return "", ""
}
