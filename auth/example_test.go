package auth_test

import (
	"context"
	"log"
	"os/signal"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/tidings-io/tidings/auth"
)

// A backend that replies for the tokens of its users.
func ExampleResponder() {
	nc, err := nats.Connect(nats.DefaultURL)
	if err != nil {
		log.Fatal(err)
	}
	defer nc.Close()

	sessions := map[string]string{"token-1": "42"} // a real backend reads its session store
	responder := auth.NewResponder(nc, auth.AuthenticatorFunc(
		func(_ context.Context, r auth.Request) (auth.Identity, error) {
			user, ok := sessions[r.Token]
			if !ok {
				return auth.Identity{}, &auth.Refusal{Code: "token_unknown", Message: "sign in again"}
			}
			return auth.Identity{User: user, Topics: []string{"releases"}, ExpiresIn: time.Hour}, nil
		}), auth.ResponderConfig{})

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := responder.Run(ctx); err != nil {
		log.Print(err)
	}
}
