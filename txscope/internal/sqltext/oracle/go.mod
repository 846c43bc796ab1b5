module github.com/alkey-go/alkey/txscope/internal/sqltext/oracle

go 1.26.0

replace github.com/alkey-go/alkey => ../../../..

require (
	github.com/alkey-go/alkey v0.0.0
	github.com/pganalyze/pg_query_go/v6 v6.2.5
	github.com/sqlc-dev/marino v0.3.1
	go.uber.org/goleak v1.3.0
	google.golang.org/protobuf v1.33.0
)

require (
	github.com/puzpuzpuz/xsync/v4 v4.5.0 // indirect
	golang.org/x/text v0.43.0 // indirect
)
