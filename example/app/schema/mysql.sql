-- Here every CREATE commits by itself. A start that was cut short is made up for by the next one: each
-- statement can run again, and orders has its name only when all is there.
CREATE TABLE IF NOT EXISTS users (
    id    BIGINT AUTO_INCREMENT PRIMARY KEY,
    name  VARCHAR(100) NOT NULL,
    email VARCHAR(254) NOT NULL UNIQUE
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci;

CREATE TABLE IF NOT EXISTS new_orders (
    id      BIGINT AUTO_INCREMENT PRIMARY KEY,
    user_id BIGINT NOT NULL,
    item    VARCHAR(100) NOT NULL,
    cents   INT NOT NULL CHECK (cents > 0),
    FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci;

INSERT IGNORE INTO users (id, name, email) VALUES
    (1, 'Ada Lovelace', 'ada@example.org'),
    (2, 'Grace Hopper', 'grace@example.org'),
    (3, 'Edsger Dijkstra', 'edsger@example.org');

INSERT IGNORE INTO new_orders (id, user_id, item, cents) VALUES
    (1, 1, 'Punched cards, 500', 1250),
    (2, 1, 'Brass gear wheel', 4900),
    (3, 2, 'Moth tweezers', 790),
    (4, 3, 'Fountain pen', 8900),
    (5, 3, 'Ink, blue black', 1195);

RENAME TABLE new_orders TO orders;
