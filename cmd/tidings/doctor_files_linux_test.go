package main

import (
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/tidings-io/tidings/streams/streamstest"
)

func TestDoctorFindsTheFilesFaults(t *testing.T) {
	t.Parallel()
	dir, nowhere := t.TempDir(), fmt.Sprint("nats://127.0.0.1:", streamstest.FreePort(t))
	write := func(name, text string, mode os.FileMode) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	with := func(args ...string) map[string][]finding {
		t.Helper()
		return examine(t, append(args, "--nats", nowhere)...)
	}
	const key = "tidings_key_0123456789abcdef"
	finds(t, with("--api-keys", write("plain", "0123456789abcdef", 0o600))["keys"], isPoor, "API keys without the prefix tidings_key_: a mistyped")
	finds(t, with()["keys"], isGood, "the HTTP API is off")
	finds(t, with("--api-keys", filepath.Join(dir, "none"))["keys"], isBad, "it must name a file")
	finds(t, with("--api-keys", write("short", "abc", 0o600))["keys"], isBad, "line 1: an API key is 16 characters at least")
	finds(t, with("--api-keys", write("empty", "# none\n", 0o600))["keys"], isBad, "there is no key in it (name a file")
	finds(t, with("--api-keys", write("open", key, 0o644))["keys"], isPoor, "API keys is accessible to all users (chmod ")
	finds(t, with("--api-keys", write("keys", key+"\n"+key+"1", 0o600))["keys"], isGood, "2 keys for the HTTP API")

	pair := func(lasts time.Duration) []string {
		t.Helper()
		made := filepath.Join(dir, lasts.String())
		makeCertificate(t, made, "localhost", lasts)
		return []string{"--tls-cert", filepath.Join(made, "tls.crt"), "--tls-key", filepath.Join(made, "tls.key")}
	}
	const day = 24 * time.Hour
	finds(t, with()["certificate"], isGood, "only this machine can connect")
	finds(t, with("--tls-by-proxy", "--listen", ":0")["certificate"], isGood, "a proxy does TLS")
	lasting := pair(20*day + time.Hour)
	finds(t, with(lasting...)["certificate"], isGood, "expires in 20 days")
	if err := os.Chmod(lasting[3], 0o644); err != nil {
		t.Fatal(err)
	}
	finds(t, with(lasting...)["certificate"], isPoor, "key of the certificate is accessible to all users (chmod ")
	soon := with(pair(13*day + time.Hour)...)["certificate"]
	finds(t, soon, isPoor, "expires in 13 days (replace the file")
	if len(soon) != 1 {
		t.Errorf("it says more than once: %+v", soon)
	}
	finds(t, with(pair(-time.Minute)...)["certificate"], isBad, "expired on 20")
	finds(t, with("--tls-cert", filepath.Join(dir, "keys"), "--tls-key", filepath.Join(dir, "keys"))["certificate"], isBad, "both must be PEM")
	finds(t, certificateFinding(&x509.Certificate{NotBefore: time.Now().Add(day), NotAfter: time.Now().Add(90 * day)}, "f", time.Now()),
		isBad, "f is not valid before")
}
