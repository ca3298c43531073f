package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"
)

// printHints prints commands to try next, with --dev only. The address is the base URL for clients. natsURL is the NATS server for other
// processes, or empty if they cannot reach it.
func (o *gatewayOptions) printHints(w io.Writer, address, natsURL, key string) {
	if !o.dev {
		return
	}
	server := ""
	if !strings.HasSuffix(natsURL, "//127.0.0.1:4222") {
		server = " --nats " + natsURL
	}
	ours, tools := o.nats.hints()
	url := ""
	if address != "http://127.0.0.1:8080" {
		url = " --url ws" + strings.TrimPrefix(address, "http")
	}
	if o.tls.cert != "" {
		url += " --tls-ca " + o.tls.cert
	}
	fmt.Fprintf(w, `
Tidings is running.  Demo page: %s/

In another terminal:
  go run ./cmd/tidings listen --token alice%s
`, address, url)
	if natsURL != "" {
		fmt.Fprintf(w, `  go run ./cmd/tidings publish alice '{"order":991}'%[1]s
  go run ./cmd/tidings users%[1]s
`, server+ours)
	}
	fmt.Fprintf(w, `Over HTTP, with this key:
  export KEY=%s
  curl -H "Authorization: Bearer $KEY" %s/v1/notifications --json '{"to":"alice","data":{"order":991}}'
`, key, address)
	if natsURL != "" {
		fmt.Fprintf(w, `With the nats tool:
  nats%[1]s pub notify.user.alice 'hello'
  nats%[1]s consumer report NOTIFICATIONS
`, strings.Replace(server, "--nats", "--server", 1)+tools)
	}
	fmt.Fprintf(w, `
The token is the user's name. Ctrl-C stops the gateway; notifications stay in %s.
`, cmp.Or(o.data, natsURL))
}

// hints returns the flags that other commands need to connect to NATS: for tidings, and for the nats tool. Secrets are placeholders.
func (n *natsFlags) hints() (ours, tools string) {
	switch {
	case n.creds != "":
		ours = " --creds " + n.creds
		tools = ours
	case n.user != "":
		ours = " --nats-user " + n.user + " --nats-password PASSWORD"
		tools = " --user " + n.user + " --password PASSWORD"
	case n.token != "":
		ours, tools = " --nats-token TOKEN", " --token TOKEN"
	}
	return ours, tools
}
