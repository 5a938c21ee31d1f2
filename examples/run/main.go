package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	s := &show{}
	flag.IntVar(&s.orders, "orders", 1000, "how many orders customers place")
	flag.StringVar(&s.databaseURL, "database-url", "", "a Postgres of yours, as a user who may create databases; unset, a throw-away one")
	flag.StringVar(&s.brokers, "brokers", "", "a Kafka of yours, HOST:PORT; unset, one simulated in this process")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := s.run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "run:", err)
		os.Exit(1)
	}
}

// show is one run from beginning to end.
type show struct {
	orders      int
	databaseURL string
	brokers     string
}

func (s *show) run(ctx context.Context) (err error) {
	if s.orders < 10 {
		return fmt.Errorf("--orders: %d is less than 10", s.orders)
	}
	places, err := openSite(ctx, s.databaseURL, s.brokers)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, places.close()) }()
	programs, err := build(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, programs.close()) }()
	if err := programs.migrate(ctx, places); err != nil {
		return err
	}
	services, err := programs.start(places)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, services.stop()) }()
	began := time.Now()
	shoppers := &customers{shop: "http://" + services.address}
	if err := shoppers.await(ctx); err != nil {
		return err
	}
	third := s.orders / 3
	for _, victims := range [][]string{{"billing"}, {"relay of orders", "billing"}} {
		if err := shoppers.place(ctx, third); err != nil {
			return err
		}
		if err := awaitInvoice(ctx, places); err != nil {
			return err
		}
		for _, victim := range victims {
			fmt.Printf("run: kill -9 of the process %s, and it starts again\n", victim)
			if err := services.replace(victim); err != nil {
				return err
			}
		}
	}
	if err := shoppers.place(ctx, s.orders-2*third); err != nil {
		return err
	}
	verdict, err := await(ctx, places)
	if err != nil {
		return err
	}
	fmt.Printf("run: done after %.1f s\n\n%s", time.Since(began).Seconds(), verdict)
	return verdict.check()
}
