package main

import (
	"strings"
	"testing"
)

func TestTheExamplesAgreeAfterKills(t *testing.T) {
	if err := (&show{orders: 90}).run(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestAVerdictNamesWhatDiffers(t *testing.T) {
	sound := verdict{placed: 10, invoices: 10, cancelled: 1, retracted: 1, turnover: 900, shop: 900}
	if err := sound.check(); err != nil {
		t.Error(err)
	}
	for name, spoil := range map[string]func(*verdict){
		"invoices: 9, want 10":                      func(v *verdict) { v.invoices-- },
		"cancelled invoices: 2, want 1":             func(v *verdict) { v.retracted++ },
		"balance of the shop in cents: 1000, want":  func(v *verdict) { v.shop += 100 },
		"sum of all accounts in cents: 100, want 0": func(v *verdict) { v.sum = 100 },
	} {
		v := sound
		spoil(&v)
		if err := v.check(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
