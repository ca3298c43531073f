package streams

import (
	"errors"
	"slices"

	"github.com/nats-io/nats.go/jetstream"
)

// Codes of the JetStream API that nats.go does not name, and in comments what nats-server calls them.
const (
	codeNoPeers         jetstream.ErrorCode = 10005 // JSClusterNoPeersErrF: not enough nodes for the replicas, until others have started
	codeNoCluster       jetstream.ErrorCode = 10008 // JSClusterNotAvailErr: no leader
	codeNoStore         jetstream.ErrorCode = 10049 // JSStreamStoreFailedF
	codeTooLarge        jetstream.ErrorCode = 10054 // JSStreamMessageExceedsMaximumErr
	codeOtherStream     jetstream.ErrorCode = 10060 // JSStreamNotMatchErr
	codeNotClustered    jetstream.ErrorCode = 10074 // JSStreamReplicasNotSupportedErr
	codeStreamOffline   jetstream.ErrorCode = 10118 // JSStreamOfflineErr: none of the nodes that have the stream runs
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
