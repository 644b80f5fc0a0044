package e2e

import (
	"os"
	"testing"

	"gatehouse.dev/gatehouse/e2e/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }
