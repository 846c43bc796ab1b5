-- name: GetAuthor :one
SELECT * FROM authors WHERE id = ?;

-- name: ListAuthors :many
SELECT * FROM authors WHERE deleted_at IS NULL ORDER BY name;

-- name: CreateAuthor :execresult
INSERT INTO authors (name, visits) VALUES (?, ?);

-- name: UpsertAuthor :exec
INSERT INTO authors (name, visits) VALUES (?, ?)
ON DUPLICATE KEY UPDATE visits = VALUES(visits);

-- name: SetVisits :exec
UPDATE authors SET visits = ? WHERE id = ?;

-- name: VisitAuthorsOver :execrows
UPDATE authors SET visits = visits + 1 WHERE visits > ?;

-- name: SoftDeleteAuthor :exec
UPDATE authors SET deleted_at = CURRENT_TIMESTAMP WHERE id = ?;

-- name: DeleteAuthor :execrows
DELETE FROM authors WHERE id = ?;

-- name: CreateBook :exec
INSERT INTO books (author_id, title) VALUES (?, ?);
