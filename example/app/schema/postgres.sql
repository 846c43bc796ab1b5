CREATE TABLE users (
    id    BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name  TEXT NOT NULL,
    email TEXT NOT NULL
);

CREATE UNIQUE INDEX users_email ON users (lower(email));

CREATE TABLE orders (
    id      BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id BIGINT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    item    TEXT NOT NULL,
    cents   INTEGER NOT NULL CHECK (cents > 0)
);

CREATE INDEX orders_of_user ON orders (user_id);

INSERT INTO users (name, email) VALUES
    ('Ada Lovelace', 'ada@example.org'),
    ('Grace Hopper', 'grace@example.org'),
    ('Edsger Dijkstra', 'edsger@example.org');

INSERT INTO orders (user_id, item, cents) VALUES
    (1, 'Punched cards, 500', 1250),
    (1, 'Brass gear wheel', 4900),
    (2, 'Moth tweezers', 790),
    (3, 'Fountain pen', 8900),
    (3, 'Ink, blue black', 1195);
