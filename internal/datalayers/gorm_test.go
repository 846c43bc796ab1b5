package datalayers

import (
	"context"
	"errors"
	"testing"

	"github.com/google/uuid"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/logger"
)

type gormAuthor struct {
	ID        int64
	Name      string
	Visits    int
	DeletedAt gorm.DeletedAt
	Books     []gormBook `gorm:"foreignKey:AuthorID"`
}

func (gormAuthor) TableName() string { return "authors" }

// BeforeSave has what is renamed noted, in the transaction of the save.
func (a *gormAuthor) BeforeSave(tx *gorm.DB) error {
	if a.Name != "hooked" {
		return nil
	}
	return tx.Create(&gormAudit{Note: "before"}).Error
}

// AfterCreate notes who is new.
func (a *gormAuthor) AfterCreate(tx *gorm.DB) error {
	if a.Name != "hooked" {
		return nil
	}
	return tx.Create(&gormAudit{Note: "after"}).Error
}

type gormBook struct {
	ID       int64
	AuthorID *int64
	Title    string
	Tags     []gormTag `gorm:"many2many:book_tags;joinForeignKey:BookID;joinReferences:TagID"`
}

func (gormBook) TableName() string { return "books" }

type gormTag struct {
	ID   int64
	Name string
}

func (gormTag) TableName() string { return "tags" }

type gormAudit struct {
	ID   int64
	Note string
}

func (gormAudit) TableName() string { return "audits" }

type gormDocument struct {
	ID    uuid.UUID
	Title string
}

func (gormDocument) TableName() string { return "documents" }

// TestGORM uses GORM in the ways in which it talks to a database.
func TestGORM(t *testing.T) {
	for _, mode := range []struct {
		name   string
		config gorm.Config
	}{
		{"default", gorm.Config{}},
		{"PrepareStmt", gorm.Config{PrepareStmt: true}},
		{"SkipDefaultTransaction", gorm.Config{SkipDefaultTransaction: true}},
	} {
		t.Run(mode.name, func(t *testing.T) {
			onEach(t, func(t *testing.T, f *fixture) {
				config := mode.config
				config.Logger = logger.Discard
				db, err := gorm.Open(f.gorm(f.db), &config)
				must(t, err)
				f.run(t, gormSteps(db))
			})
		})
	}
}

func gormSteps(db *gorm.DB) []step {
	on := func(do func(db *gorm.DB) error) func(context.Context) error {
		return func(ctx context.Context) error { return do(db.WithContext(ctx)) }
	}
	var (
		dee = &gormAuthor{Name: "Dee"}
		ann = &gormAuthor{ID: 1}
		bob = &gormAuthor{ID: 2}

		several = []*gormAuthor{{Name: "Dee"}, {Name: "Eve"}, {Name: "Fay"}}
		writer  = &gormAuthor{Name: "Dee", Books: []gormBook{{Title: "D"}, {Title: "E"}}}
		first   = &gormBook{ID: 1}
	)
	return []step{
		{"create", on(func(db *gorm.DB) error { return db.Create(dee).Error }), changes(dee)},
		{"create a batch", on(func(db *gorm.DB) error { return db.CreateInBatches(several, 2).Error }),
			changes(author(4), author(5), author(6))},
		{"create from a map", on(func(db *gorm.DB) error {
			return db.Model(&gormAuthor{}).Create(map[string]any{"Name": "Dee"}).Error
		}), changes(author(4))},
		{"create with associations", on(func(db *gorm.DB) error { return db.Create(writer).Error }),
			changes(writer, book(4), book(5))},
		{"first or create", on(func(db *gorm.DB) error {
			return db.FirstOrCreate(&gormAuthor{}, gormAuthor{Name: "Eve"}).Error
		}), changes(author(4))},
		{"a key of another type", on(func(db *gorm.DB) error {
			return db.Create(&gormDocument{ID: documentC, Title: "C"}).Error
		}), changes(gormDocument{ID: documentC})},

		{"save", on(func(db *gorm.DB) error {
			if err := db.First(ann, 1).Error; err != nil {
				return err
			}
			ann.Visits++
			return db.Save(ann).Error
		}), changes(ann)},
		{"update", on(func(db *gorm.DB) error { return db.Model(bob).Update("visits", 21).Error }), changes(bob)},
		{"update by an expression", on(func(db *gorm.DB) error {
			return db.Model(bob).UpdateColumn("visits", gorm.Expr("visits + ?", 1)).Error
		}), changes(bob)},
		{"update that returns its row", on(func(db *gorm.DB) error {
			return db.Model(bob).Clauses(clause.Returning{}).Update("visits", 22).Error
		}), changes(bob).notOn(onMariaDB, "GORM writes UPDATE … RETURNING, which MariaDB 10.11 has not")},
		{"generics", func(ctx context.Context) error {
			_, err := gorm.G[gormBook](db).Where("id = ?", 2).Update(ctx, "title", "new")
			return err
		}, changes(book(2))},
		{"bulk update", on(func(db *gorm.DB) error {
			return db.Model(&gormAuthor{}).Where("visits > ?", 15).Updates(map[string]any{"visits": 0}).Error
		}), changes(author(2), author(3))},
		{"bulk update of all", on(func(db *gorm.DB) error {
			return db.Session(&gorm.Session{AllowGlobalUpdate: true}).Model(&gormBook{}).Update("title", "same").Error
		}), changes(book(1), book(2), book(3))},
		{"update by a key of another type", on(func(db *gorm.DB) error {
			return db.Model(&gormDocument{ID: documentA}).Update("title", "new").Error
		}), changes(gormDocument{ID: documentA})},
		{"update of nothing", on(func(db *gorm.DB) error {
			return db.Model(&gormAuthor{ID: 99}).Update("visits", 1).Error
		}), nothing.atMostOn(onMariaDB, changes(author(99)))},

		{"soft delete", on(func(db *gorm.DB) error { return db.Delete(&gormAuthor{ID: 3}).Error }), changes(author(3))},
		{"delete", on(func(db *gorm.DB) error { return db.Unscoped().Delete(&gormAuthor{ID: 3}).Error }), changes(author(3))},
		{"bulk delete", on(func(db *gorm.DB) error { return db.Where("title > ?", "B").Delete(&gormBook{}).Error }), changes(book(3))},
		{"delete of a list of keys", on(func(db *gorm.DB) error {
			return db.Unscoped().Select("Tags").Delete(&[]gormBook{{ID: 1}, {ID: 2}}).Error
		}), changes(book(1), book(2), tagged(1, 1), tagged(2, 2))},

		{"append to an association", on(func(db *gorm.DB) error {
			return db.Model(bob).Association("Books").Append(&gormBook{Title: "D"})
		}), changes(book(4))},
		{"replace an association", on(func(db *gorm.DB) error {
			return db.Model(&gormAuthor{ID: 1}).Association("Books").Replace(&gormBook{ID: 1, Title: "A"})
		}), changes(book(1), book(2))},
		{"append to a join table", on(func(db *gorm.DB) error {
			return db.Model(first).Association("Tags").Append(&gormTag{Name: "rare"})
		}), changes(tag(3), tagged(1, 3)).atMostOn(onMariaDB, sweeps("tags", "book_tags"))},
		{"delete from a join table", on(func(db *gorm.DB) error {
			return db.Model(&gormBook{ID: 2}).Association("Tags").Delete(&gormTag{ID: 2})
		}), changes(tagged(2, 2))},
		{"clear a join table", on(func(db *gorm.DB) error {
			return db.Model(&gormBook{ID: 1}).Association("Tags").Clear()
		}), changes(tagged(1, 1))},

		{"hooks", on(func(db *gorm.DB) error { return db.Create(&gormAuthor{Name: "hooked"}).Error }),
			changes(author(4), audit(1), audit(2))},
		{"upsert of an old row", on(func(db *gorm.DB) error {
			return db.Clauses(clause.OnConflict{
				Columns:   []clause.Column{{Name: "name"}},
				DoUpdates: clause.AssignmentColumns([]string{"visits"}),
			}).Create(&gormAuthor{Name: "Bob", Visits: 99}).Error
		}), changes(author(2)).atMostOn(onMariaDB, sweeps("authors"))},
		{"upsert that does nothing", on(func(db *gorm.DB) error {
			return db.Clauses(clause.OnConflict{DoNothing: true}).Create(&gormTag{ID: 1, Name: "new"}).Error
		}), nothing.atMostOn(onMariaDB, sweeps("tags")).atMostOn(onPostgres, changes(tag(1)))},

		{"transaction", on(func(db *gorm.DB) error {
			return db.Transaction(func(tx *gorm.DB) error {
				if err := tx.Model(&gormAuthor{ID: 1}).Update("visits", 0).Error; err != nil {
					return err
				}
				return tx.Delete(&gormBook{ID: 3}).Error
			})
		}), changes(author(1), book(3))},
		{"transaction rolled back", on(func(db *gorm.DB) error {
			return undone(db.Transaction(func(tx *gorm.DB) error {
				return errors.Join(tx.Create(&gormAuthor{Name: "Eve"}).Error, errUndo)
			}))
		}), nothing},
		{"inner transaction rolled back", on(func(db *gorm.DB) error {
			return db.Transaction(func(tx *gorm.DB) error {
				inner := tx.Transaction(func(tx *gorm.DB) error {
					return errors.Join(tx.Model(&gormAuthor{ID: 2}).Update("visits", 0).Error, errUndo)
				})
				return errors.Join(undone(inner), tx.Model(&gormAuthor{ID: 1}).Update("visits", 0).Error)
			})
		}), changes(author(1))},
		{"inner transaction committed", on(func(db *gorm.DB) error {
			return db.Transaction(func(tx *gorm.DB) error {
				return tx.Transaction(func(tx *gorm.DB) error {
					return tx.Model(&gormAuthor{ID: 2}).Update("visits", 0).Error
				})
			})
		}), changes(author(2))},
		{"savepoints by hand", on(func(db *gorm.DB) error {
			tx := db.Begin()
			tx.Model(&gormAuthor{ID: 1}).Update("visits", 0)
			tx.SavePoint("here")
			tx.Model(&gormAuthor{ID: 2}).Update("visits", 0)
			tx.RollbackTo("here")
			tx.Model(&gormAuthor{ID: 3}).Update("visits", 0)
			return tx.Commit().Error
		}), changes(author(1), author(3))},

		{"raw", on(func(db *gorm.DB) error {
			return db.Exec("UPDATE authors SET visits = ? WHERE id = ?", 7, 3).Error
		}), changes(author(3))},
		{"raw with rows", on(func(db *gorm.DB) error {
			var id int64
			return db.Raw("INSERT INTO authors (name) VALUES (?) RETURNING id", "Dee").Scan(&id).Error
		}), changes(author(4))},

		{"read", on(func(db *gorm.DB) error {
			var (
				authors []gormAuthor
				n       int64
			)
			return errors.Join(
				db.Preload("Books.Tags").Find(&authors).Error,
				db.Model(&gormBook{}).Where("title <> ?", "A").Count(&n).Error,
				db.Joins("JOIN books ON books.author_id = authors.id").First(&gormAuthor{}).Error,
				db.FirstOrCreate(&gormAuthor{}, gormAuthor{Name: "Bob"}).Error,
			)
		}), nothing},
		{"read with a lock", on(func(db *gorm.DB) error {
			return db.Transaction(func(tx *gorm.DB) error {
				return tx.Clauses(clause.Locking{Strength: "UPDATE"}).First(&gormAuthor{}, 1).Error
			})
		}), nothing},
	}
}

// TestGORMMigrates has GORM make its own table, and finds that exact too.
func TestGORMMigrates(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		db, err := gorm.Open(f.gorm(f.db), &gorm.Config{Logger: logger.Discard})
		must(t, err)
		exec(t, f.bare, `DROP TABLE audits`)
		f.bare.SetMaxIdleConns(0) // PostgreSQL lets no prepared SELECT * outlive a new column
		must(t, db.AutoMigrate(&gormAudit{}))
		noted := &gormNotedAudit{Note: "x", By: "y"}
		f.run(t, []step{
			{"create", func(ctx context.Context) error {
				return db.WithContext(ctx).Create(&gormAudit{Note: "x"}).Error
			}, changes(audit(1))},
			{"change the table", func(ctx context.Context) error {
				return db.WithContext(ctx).Migrator().AddColumn(&gormNotedAudit{}, "By")
			}, sweeps("audits")},
			{"write the new column", func(ctx context.Context) error {
				return db.WithContext(ctx).Create(noted).Error
			}, changes(noted)},
		})
	})
}

type gormNotedAudit struct {
	ID   int64
	Note string
	By   string `gorm:"size:20"`
}

func (gormNotedAudit) TableName() string { return "audits" }
