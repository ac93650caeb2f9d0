"""The sample: a commented file that a settings class accepts, and the reference of its settings.

`tree` makes sections and entries of a class, and has the class judge them; `placeholder` has the values for what is
required; `text` writes the tree in each format. Read `tree` first. `hotconf init` prints what `sample` returns. May
import every earlier room.
"""

from hotconf.sample.tree import Sample as Sample, sample as sample
