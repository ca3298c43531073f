package streams

import (
	"cmp"
	"strings"
)

// Rights are the subjects to which a NATS user must be allowed to publish and to subscribe, beside its inboxes, for all that a gateway
// does with the stream. Those of auditSubject and notify.… can be missed: what an operator deletes is then delivered from memory until
// it leaves that, a deleted stream is created again some seconds later, and nothing can be published by this user.
func (c Config) Rights() (publish, subscribe []string) {
	name := cmp.Or(c.Name, DefaultName)
	for _, request := range []string{
		"STREAM.INFO.%", "STREAM.CREATE.%", "STREAM.UPDATE.%", "STREAM.MSG.GET.%", "DIRECT.GET.%",
		"CONSUMER.MSG.NEXT.%.*", "CONSUMER.CREATE.%.>", "CONSUMER.INFO.%.*", "CONSUMER.RESET.%.*", "CONSUMER.DELETE.%.*",
		"CONSUMER.LIST.%", "CONSUMER.NAMES.%",
	} {
		publish = append(publish, "$JS.API."+strings.Replace(request, "%", name, 1))
	}
	return append(publish, UserPrefix+"*", TopicPrefix+"*"), []string{auditSubject}
}
