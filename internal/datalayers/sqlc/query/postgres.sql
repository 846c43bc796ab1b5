-- name: GetAuthor :one
SELECT * FROM authors WHERE id = $1;

-- name: ListAuthors :many
SELECT * FROM authors WHERE deleted_at IS NULL ORDER BY name;

-- name: CreateAuthor :one
INSERT INTO authors (name, visits) VALUES ($1, $2) RETURNING *;

-- name: UpsertAuthor :exec
INSERT INTO authors (name, visits) VALUES ($1, $2)
ON CONFLICT (name) DO UPDATE SET visits = excluded.visits;

-- name: SetVisits :exec
UPDATE authors SET visits = $1 WHERE id = $2;

-- name: VisitAuthorsOver :execrows
UPDATE authors SET visits = visits + 1 WHERE visits > $1;

-- name: SoftDeleteAuthor :exec
UPDATE authors SET deleted_at = CURRENT_TIMESTAMP WHERE id = $1;

-- name: DeleteAuthor :execrows
DELETE FROM authors WHERE id = $1;

-- name: CreateBook :exec
INSERT INTO books (author_id, title) VALUES ($1, $2);
