//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tidings-io/tidings/streams/streamstest"
)

// A publish request gets a response even if NATS delays it for longer than the HTTP server's read timeout: stored, if NATS resumes in time,
// and otherwise with the id for a retry.
func TestPublishOverHTTPWaitsForNATS(t *testing.T) {
	if !streamstest.Long() {
		t.Skip("half a minute")
	}
	nats := streamstest.RunProcess(t)
	t.Setenv("TIDINGS_API_KEY", "0123456789abcdef")
	g := runGateway(t, "--nats", nats.URL())
	type answer struct {
		ID      string
		Results []struct{ Duplicate bool }
	}
	publish := func(body string) (status int, got answer, took time.Duration) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+g.listen+"/v1/notifications", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer 0123456789abcdef")
		r.Header.Set("Content-Type", "application/json")
		began := time.Now()
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		if err != nil || json.Unmarshal(text, &got) != nil {
			t.Fatalf("%d %.300s, %v", response.StatusCode, text, err)
		}
		return response.StatusCode, got, time.Since(began)
	}
	var users []string
	for i := range 1000 {
		users = append(users, fmt.Sprintf("user-%d", i))
	}
	many, _ := json.Marshal(map[string]any{"to": users, "id": "x"})

	nats.Pause()
	timer := time.AfterFunc(12*time.Second, nats.Resume)
	defer timer.Stop()
	status, got, took := publish(string(many))
	if status != http.StatusAccepted || len(got.Results) != len(users) || took < 11*time.Second {
		t.Fatalf("%d, %d results in %s", status, len(got.Results), took)
	}
	_, got, _ = publish(string(many))
	for i, r := range got.Results {
		if !r.Duplicate {
			t.Fatalf("stored again for %s", users[i])
		}
	}

	nats.Pause()
	status, got, took = publish(`{"to":"alice","data":1}`)
	nats.Resume()
	if status != http.StatusServiceUnavailable || got.ID == "" || took < 5*time.Second {
		t.Errorf("%+v in %s", got, took)
	}
	streamstest.Eventually(t, longer, func() error {
		status, again, _ := publish(fmt.Sprintf(`{"to":"alice","data":1,"id":%q}`, got.ID))
		if status != http.StatusAccepted || len(again.Results) != 1 {
			return fmt.Errorf("%d %+v", status, again)
		}
		return nil
	})
}
