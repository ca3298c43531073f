package auth

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/nats-io/nats.go"
)

// Headers of unknown clients become lines of a NATS message. None may add a line, be cut within a
// character, or exceed the limit. The token arrives as it was sent.
func FuzzRequest(f *testing.F) {
	for _, s := range []string{
		"", "token", "a\r\nTidings-Renew: true", "\x00", " x ", "\u2028", "\u0085", "\xff\xfe", strings.Repeat("é", 300),
		strings.Repeat("\xff", 600), strings.Repeat("a", 511) + "é", "\u00a0",
	} {
		f.Add(s, s, s, s, false)
		f.Add("token", "127.0.0.1:1", s, "agent", true)
	}
	f.Fuzz(func(t *testing.T, token, origin, agent, device string, renew bool) {
		asked := Request{Token: token, Conn: "c", RemoteAddr: "127.0.0.1:1", Origin: origin, UserAgent: agent, Device: device, Renew: renew}
		msg := asked.message("tidings.auth")
		block := wireHeader(msg)
		if lines := strings.Count(block, "\r\n"); lines > 8 || strings.Count(block, "\n") != lines || strings.Count(block, "\r") != lines {
			t.Fatalf("headers of %+q: %q", asked.Origin, block)
		}
		header, err := nats.DecodeHeadersMsg([]byte(block))
		if err != nil {
			t.Fatalf("%q: %v", block, err)
		}
		got := requestOf(msg.Data, header)
		if got.Token != token || got.Renew != renew || got.Conn != "c" || got.RemoteAddr != "127.0.0.1:1" {
			t.Fatalf("%+v arrives as %+v", asked, got)
		}
		for sent, arrived := range map[string]string{origin: got.Origin, agent: got.UserAgent, device: got.Device} {
			if len(arrived) > maxHeader || !utf8.ValidString(arrived) || strings.ContainsFunc(arrived, unicode.IsControl) {
				t.Errorf("%q arrives as %q", sent, arrived)
			}
			if plain := strings.TrimFunc(sent, func(c rune) bool { return c > ' ' && c < 0x7f }); plain == "" && len(sent) <= maxHeader && arrived != sent {
				t.Errorf("%q arrives as %q", sent, arrived)
			}
		}
	})
}

// wireHeader returns the message's header as nats.go writes it.
func wireHeader(msg *nats.Msg) string {
	var b strings.Builder
	b.WriteString("NATS/1.0\r\n")
	for name, values := range msg.Header {
		for _, value := range values {
			b.WriteString(name + ": " + value + "\r\n")
		}
	}
	b.WriteString("\r\n")
	return b.String()
}
