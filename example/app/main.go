// Command app shows what alkey does, on users and their orders: beside every part of a page stands
// the key under which it is cached. Edit something, and see which keys change and which stay.
//
//	go run ./example/app
//
// The environment:
//
//	PORT          where it listens; default 8080
//	DATABASE_URL  postgres://user:password@host/database, mysql://user:password@host/database, or an
//	              SQLite file as a path or sqlite:path; default: a temporary file. An empty database
//	              gets its tables and a few rows
//	REDIS_URL     the token store, for several processes over one database; default: in process
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/alkey-go/alkey"
	"github.com/alkey-go/alkey/tokens"
	_ "github.com/alkey-go/alkey/txscope/mysql"
	_ "github.com/alkey-go/alkey/txscope/postgres"
	_ "github.com/alkey-go/alkey/txscope/sqlite"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	if err := run(ctx); err != nil {
		slog.Error(err.Error())
		os.Exit(1)
	}
}

// run serves until ctx ends.
func run(ctx context.Context) (err error) {
	at, err := sourceOf(os.Getenv("DATABASE_URL"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, at.remove()) }()

	ts, err := tokens.FromEnv(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ts.Close()) }()

	db, err := alkey.Open(at.driver, at.dsn, ts)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()

	s := newStore(db)
	if err := s.migrate(ctx); err != nil {
		return fmt.Errorf("database: %w", err)
	}
	a, err := newApp(ctx, s, ts)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", net.JoinHostPort("", cmp.Or(os.Getenv("PORT"), "8080")))
	if err != nil {
		return fmt.Errorf("PORT: %w", err)
	}
	slog.Info(fmt.Sprintf("open http://localhost:%d", l.Addr().(*net.TCPAddr).Port))
	return serve(ctx, l, a.routes())
}

// serve answers on l until ctx ends, then lets the requests finish that are under way.
func serve(ctx context.Context, l net.Listener, h http.Handler) error {
	server := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       2 * time.Minute,
	}
	done := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		done <- server.Shutdown(limited)
	})
	if err := server.Serve(l); stop() {
		return err // not our doing
	}
	return <-done
}
